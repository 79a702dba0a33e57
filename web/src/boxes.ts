/**
 * Arithmetic of boxes. A box is left, top, right, bottom, in fractions of the picture's width and height, 0 to 1.
 * Lists of boxes run from back to front.
 */
export type Box = [number, number, number, number];
export type Handle = "nw" | "n" | "ne" | "e" | "se" | "s" | "sw" | "w";
export type Side = "left" | "top" | "width" | "height";
export interface Point {
  x: number;
  y: number;
}
/** Places that edges and centres snap to. */
export interface Lines {
  x: number[];
  y: number[];
}
/** A box, and the lines that it snapped to. */
export interface Snapped {
  box: Box;
  x?: number;
  y?: number;
}

export const HANDLES: Handle[] = ["nw", "n", "ne", "e", "se", "s", "sw", "w"];
/** Shortest side of a box. */
export const SMALLEST = 0.02;
const THIRDS = [0, 1 / 3, 1 / 2, 2 / 3, 1];

export const clamp = (value: number, low: number, high: number): number => Math.min(Math.max(value, low), high);
export const round = (value: number): number => Math.round(value * 10_000) / 10_000;
const rounded = (left: number, top: number, right: number, bottom: number): Box => [
  round(left),
  round(top),
  round(right),
  round(bottom),
];

/** Shift a box as far as the picture allows. */
export function move([left, top, right, bottom]: Box, dx: number, dy: number): Box {
  const x = clamp(dx, -left, 1 - right);
  const y = clamp(dy, -top, 1 - bottom);
  return rounded(left + x, top + y, right + x, bottom + y);
}

/** Shift the edges that a handle holds; they stop at the picture's border and before the opposite edge. */
export function resize([left, top, right, bottom]: Box, handle: Handle, dx: number, dy: number): Box {
  return rounded(
    handle.includes("w") ? clamp(left + dx, 0, right - SMALLEST) : left,
    handle.includes("n") ? clamp(top + dy, 0, bottom - SMALLEST) : top,
    handle.includes("e") ? clamp(right + dx, left + SMALLEST, 1) : right,
    handle.includes("s") ? clamp(bottom + dy, top + SMALLEST, 1) : bottom,
  );
}

/** The box between two corners, in any order, and at least of the smallest size. */
export function between(a: Point, b: Point): Box {
  const [left, right] = stretch(a.x, b.x);
  const [top, bottom] = stretch(a.y, b.y);
  return rounded(left, top, right, bottom);
}

function stretch(a: number, b: number): [number, number] {
  const low = clamp(Math.min(a, b), 0, 1 - SMALLEST);
  return [low, clamp(Math.max(a, b), low + SMALLEST, 1)];
}

/** Set one number of a box: a position shifts it, a size changes its right or lower edge. */
export function withSide(box: Box, side: Side, value: number): Box {
  const [left, top, right, bottom] = box;
  if (side === "left") return move(box, value - left, 0);
  if (side === "top") return move(box, 0, value - top);
  if (side === "width") return resize(box, "e", left + value - right, 0);
  return resize(box, "s", 0, top + value - bottom);
}

export function sideOf([left, top, right, bottom]: Box, side: Side): number {
  return round({ left, top, width: right - left, height: bottom - top }[side]);
}

/** Borders, middle and thirds of the picture, edges and centres of the other boxes. */
export function linesOf(others: Box[]): Lines {
  return {
    x: [...THIRDS, ...others.flatMap(([left, , right]) => [left, right, (left + right) / 2])],
    y: [...THIRDS, ...others.flatMap(([, top, , bottom]) => [top, bottom, (top + bottom) / 2])],
  };
}

/** Shift a box so that an edge or its centre lies on a line that is within `reach`. */
export function snapMove(box: Box, lines: Lines, reach: Point): Snapped {
  const [left, top, right, bottom] = box;
  const x = nearest([left, right, (left + right) / 2], lines.x, reach.x);
  const y = nearest([top, bottom, (top + bottom) / 2], lines.y, reach.y);
  return { box: move(box, x?.shift ?? 0, y?.shift ?? 0), x: x?.line, y: y?.line };
}

/** Shift the edges that a handle holds to lines that are within `reach`. */
export function snapResize(box: Box, handle: Handle, lines: Lines, reach: Point): Snapped {
  const [left, top, right, bottom] = box;
  const xs = [...(handle.includes("w") ? [left] : []), ...(handle.includes("e") ? [right] : [])];
  const ys = [...(handle.includes("n") ? [top] : []), ...(handle.includes("s") ? [bottom] : [])];
  const x = nearest(xs, lines.x, reach.x);
  const y = nearest(ys, lines.y, reach.y);
  return { box: resize(box, handle, x?.shift ?? 0, y?.shift ?? 0), x: x?.line, y: y?.line };
}

function nearest(values: number[], lines: number[], reach: number): { line: number; shift: number } | undefined {
  let best: { line: number; shift: number } | undefined;
  for (const value of values) {
    for (const line of lines) {
      const shift = line - value;
      if (Math.abs(shift) <= reach && (best === undefined || Math.abs(shift) < Math.abs(best.shift))) best = { line, shift };
    }
  }
  return best;
}

/** Positions of the boxes at a point, the one in front first. */
export function hit(boxes: (Box | null)[], { x, y }: Point): number[] {
  return boxes
    .map((box, index) => (box && box[0] <= x && x <= box[2] && box[1] <= y && y <= box[3] ? index : -1))
    .filter((index) => index >= 0)
    .reverse();
}

/** The next of the boxes at a point: a click on the chosen one chooses the one behind it, and after the last the first. */
export function cycle(hits: number[], chosen: number): number | undefined {
  return hits[(hits.indexOf(chosen) + 1) % hits.length];
}

/** A copy of a list with one item at another position. */
export function reordered<T>(items: T[], from: number, to: number): T[] {
  const rest = items.filter((_, index) => index !== from);
  return [...rest.slice(0, to), items[from]!, ...rest.slice(to)];
}

export function overlap(a: Box, b: Box): number {
  const width = Math.min(a[2], b[2]) - Math.max(a[0], b[0]);
  const height = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  return width > 0 && height > 0 ? width * height : 0;
}

/** A box of some size around a point, within the picture. */
export function centred({ x, y }: Point, width: number, height: number): Box {
  const left = clamp(x - width / 2, 0, 1 - width);
  const top = clamp(y - height / 2, 0, 1 - height);
  return rounded(left, top, left + width, top + height);
}

/** Sides of a new box; smaller ones are for where there is no room else. */
const NEW_SIDES = [0.4, 0.33, 0.27, 0.21];

/** Where a new box covers none of the others, as large and as near to the middle as may be; in a full picture, where it covers least. */
export function freePlace(others: Box[]): Box {
  const places = NEW_SIDES.map((side) => placeOf(side, others));
  return places.find((box) => others.every((other) => overlap(box, other) === 0)) ?? places[0]!;
}

function placeOf(side: number, others: Box[]): Box {
  const steps = 20;
  let best: { box: Box; cost: number } | undefined;
  for (let row = 0; row <= steps; row++) {
    for (let column = 0; column <= steps; column++) {
      const left = ((1 - side) * column) / steps;
      const top = ((1 - side) * row) / steps;
      const box = rounded(left, top, left + side, top + side);
      const covered = others.reduce((sum, other) => sum + overlap(box, other), 0);
      const away = Math.hypot(left + side / 2 - 0.5, top + side / 2 - 0.5);
      const cost = covered * 100 + away;
      if (best === undefined || cost < best.cost) best = { box, cost };
    }
  }
  return best!.box;
}

/** Places for some new boxes in an empty picture: in rows, none over another. */
export function sideBySide(count: number): Box[] {
  const columns = Math.ceil(Math.sqrt(count));
  const rows = Math.ceil(count / columns);
  const side = Math.min(NEW_SIDES[0]!, 0.9 / columns);
  return Array.from({ length: count }, (_, index) => {
    const row = Math.floor(index / columns);
    const inRow = row < rows - 1 ? columns : count - row * columns;
    const middle = { x: ((index % columns) + 0.5) / inRow, y: (row + 0.5) / rows };
    return centred(middle, side, side);
  });
}

/** Where a second box goes, after the first: side by side, if the first is where it was put; null if it is elsewhere. */
export function secondPlace(first: Box): [Box, Box] | null {
  if (first.join() !== freePlace([]).join()) return null;
  return sideBySide(2) as [Box, Box];
}

/** What a screen reader says. */
export function describe(phrase: string, box: Box): string {
  const percent = (side: Side) => Math.round(sideOf(box, side) * 100);
  return (
    `${phrase || "unnamed"}, ${percent("width")} percent wide, ${percent("height")} percent tall, ` +
    `${percent("left")} percent from the left, ${percent("top")} percent from the top`
  );
}

export interface Size {
  width: number;
  height: number;
}
const SHAPES: [string, number][] = [
  ["Square", 1],
  ["Landscape 4:3", 4 / 3],
  ["Landscape 16:9", 16 / 9],
  ["Portrait 3:4", 3 / 4],
  ["Portrait 9:16", 9 / 16],
];

/** Pictures of other shapes with about as many pixels as the model's own, within its limits. */
export function shapes(own: Size, most: Size): (Size & { name: string })[] {
  const grid = own.width >= 512 ? 64 : 16;
  const area = own.width * own.height;
  return SHAPES.map(([name, aspect]) => ({
    name,
    width: clamp(Math.round(Math.sqrt(area * aspect) / grid) * grid, grid, most.width),
    height: clamp(Math.round(Math.sqrt(area / aspect) / grid) * grid, grid, most.height),
  }));
}
