import { type Box, clamp, round, type Size, SMALLEST } from "./boxes.ts";

/** Boxes at usual places. */
export const PLACES: { name: string; box: Box }[] = [
  { name: "Left half", box: [0, 0, 0.5, 1] },
  { name: "Right half", box: [0.5, 0, 1, 1] },
  { name: "Top half", box: [0, 0, 1, 0.5] },
  { name: "Bottom half", box: [0, 0.5, 1, 1] },
  { name: "Left third", box: [0, 0, 0.3333, 1] },
  { name: "Middle third", box: [0.3333, 0, 0.6667, 1] },
  { name: "Right third", box: [0.6667, 0, 1, 1] },
  { name: "Centre", box: [0.25, 0.25, 0.75, 0.75] },
  { name: "Whole", box: [0, 0, 1, 1] },
];

/** Areas of a box, as fractions of the picture's. */
export const AREAS: { name: string; area: number }[] = [
  { name: "Small", area: 0.06 },
  { name: "Medium", area: 0.16 },
  { name: "Large", area: 0.36 },
];

/** Widths of a box by its height, in pixels. */
export const ASPECTS: { name: string; aspect: number }[] = [
  { name: "Square", aspect: 1 },
  { name: "Landscape 4:3", aspect: 4 / 3 },
  { name: "Portrait 3:4", aspect: 3 / 4 },
];

/** A box of another area, with its shape and its centre as far as the picture allows. */
export function withArea(box: Box, area: number): Box {
  const [width, height] = sidesOf(box);
  return around(box, Math.sqrt((area * width) / height), Math.sqrt((area * height) / width));
}

/** A box of another shape, with its area and its centre as far as the picture allows; `aspect` is of pixels. */
export function withAspect(box: Box, aspect: number, picture: Size): Box {
  const [width, height] = sidesOf(box);
  const wide = (aspect * picture.height) / picture.width;
  return around(box, Math.sqrt(width * height * wide), Math.sqrt((width * height) / wide));
}

const sidesOf = ([left, top, right, bottom]: Box): [number, number] => [right - left, bottom - top];

/** A box with another width and height around the centre of one; both shrink alike if the picture is too small. */
function around([left, top, right, bottom]: Box, wide: number, tall: number): Box {
  const shrink = Math.min(1, 1 / wide, 1 / tall);
  const width = Math.max(wide * shrink, SMALLEST);
  const height = Math.max(tall * shrink, SMALLEST);
  const x = clamp((left + right - width) / 2, 0, 1 - width);
  const y = clamp((top + bottom - height) / 2, 0, 1 - height);
  return [round(x), round(y), round(x + width), round(y + height)];
}
