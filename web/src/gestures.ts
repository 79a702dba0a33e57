import { signal } from "@preact/signals";
import { type RefObject } from "preact";
import { useRef } from "preact/hooks";

import {
  between,
  type Box,
  centred,
  cycle,
  type Handle,
  hit,
  linesOf,
  move,
  type Point,
  resize,
  sideOf,
  snapMove,
  snapResize,
} from "./boxes.ts";
import { addDrawn, boxesOf, boxOf, chosen, doc, dragged, setSubject, type Subject } from "./document.ts";
import { focusBox } from "./focus.ts";

/** Whether the next press draws a box, also over others. */
export const drawing = signal(false);
export const snapping = signal(true);
/** A box that is being drawn, or would be dropped. */
export const drawn = signal<Box | null>(null);
export const guides = signal<{ x?: number | undefined; y?: number | undefined }>({});

/** What a card is while it is dragged to the stage. */
export const CARD = "application/x-msd-subject";
/** Key of the card that is dragged; its data cannot be read before it is dropped. */
export const carried = signal<string | null>(null);

/** In pixels: what is closer snaps, and what moves less is a click. */
const REACH = 7;
const STILL = 4;
/** Width and height of a box that is dropped. */
const DROPPED = 0.4;

type Gesture = { from: Point; still: boolean } & (
  | { kind: "draw"; corner: Point }
  | { kind: "move"; subject: Subject; hits: number[]; wasChosen: boolean }
  | { kind: "resize"; subject: Subject; handle: Handle }
);

/** What a mouse, a pen or a finger does on the stage, while `may` is true. */
export function useGestures(element: RefObject<HTMLDivElement | null>, may: () => boolean) {
  const gestures = useRef<Gestures | null>(null);
  return (gestures.current ??= new Gestures(() => element.current!, may)).handlers;
}

class Gestures {
  private gesture: Gesture | null = null;
  /** First of two corners, when a box is drawn by two clicks. */
  private corner: Point | null = null;

  constructor(
    private readonly stage: () => HTMLDivElement,
    private readonly may: () => boolean,
  ) {}

  readonly handlers = {
    onPointerDown: (event: PointerEvent) => this.press(event),
    onPointerMove: (event: PointerEvent) => this.follow(event),
    onPointerUp: (event: PointerEvent) => this.release(event),
    onPointerCancel: () => this.end(),
    onKeyDown: ({ key }: KeyboardEvent) => key === "Escape" && this.giveUp(),
    onDragOver: (event: DragEvent) => this.showDrop(event),
    onDragLeave: () => this.end(),
    onDrop: (event: DragEvent) => this.drop(event),
  };

  private at({ clientX, clientY }: MouseEvent): Point {
    const { left, top, width, height } = this.stage().getBoundingClientRect();
    return { x: (clientX - left) / width, y: (clientY - top) / height };
  }

  /** How far things snap. */
  private reach({ altKey }: MouseEvent): Point {
    const { width, height } = this.stage().getBoundingClientRect();
    return altKey || !snapping.value ? { x: 0, y: 0 } : { x: REACH / width, y: REACH / height };
  }

  private end(): void {
    this.gesture = this.corner = null;
    dragged.value = drawn.value = null;
    guides.value = {};
  }

  private giveUp(): void {
    this.end();
    drawing.value = false;
  }

  /** What a press at a point begins; null if nothing. */
  private begun(event: PointerEvent, from: Point): Gesture | null {
    const { subjects } = doc.value;
    const current = subjects.findIndex(({ key }) => key === chosen.value);
    const handle = (event.target as HTMLElement).dataset.handle as Handle | undefined;
    if (this.corner) return { kind: "draw", from, corner: this.corner, still: true };
    if (handle && subjects[current]) return { kind: "resize", from, subject: subjects[current], handle, still: true };
    const hits = hit(subjects.map((subject) => (subject.locked ? null : boxOf(subject))), from);
    if (drawing.value || event.shiftKey || hits.length === 0) {
      // A finger on the free stage scrolls the page, unless it is to draw.
      if (event.pointerType !== "touch" || drawing.value) return { kind: "draw", from, corner: from, still: true };
      chosen.value = null;
      return null;
    }
    const wasChosen = hits.includes(current);
    const subject = subjects[wasChosen ? current : hits[0]!]!;
    chosen.value = subject.key;
    focusBox(subject.key);
    return { kind: "move", from, subject, hits, wasChosen, still: true };
  }

  private press(event: PointerEvent): void {
    if (!event.isPrimary || event.button !== 0 || !this.may()) return;
    this.gesture = this.begun(event, this.at(event));
    if (this.gesture === null) return;
    event.preventDefault();
    this.stage().setPointerCapture(event.pointerId);
  }

  private follow(event: PointerEvent): void {
    const now = this.gesture;
    const to = this.at(event);
    if (now === null) {
      if (this.corner) drawn.value = between(this.corner, to);
      return;
    }
    const { width, height } = this.stage().getBoundingClientRect();
    const by = { x: to.x - now.from.x, y: to.y - now.from.y };
    if (now.still && Math.hypot(by.x * width, by.y * height) < STILL) return;
    now.still = false;
    const snapped = now.kind === "draw" ? stretched(now.corner, to, this.reach(event)) : changed(now, by, this.reach(event));
    if (!snapped) return;
    if (now.kind === "draw") drawn.value = snapped.box;
    else dragged.value = { key: now.subject.key, box: snapped.box };
    guides.value = snapped;
  }

  private release(event: PointerEvent): void {
    const now = this.gesture;
    if (now === null) return;
    if (now.kind === "draw") return this.draw(now, event);
    const box = dragged.value?.box;
    this.end();
    if (box) setSubject(now.subject.key, { box });
    else if (now.kind === "move" && now.wasChosen) chooseNext(now.hits);
  }

  private draw(now: Gesture & { kind: "draw" }, event: PointerEvent): void {
    const isFirstClick = now.still && this.corner === null;
    const box = drawn.value ?? between(now.corner, this.at(event));
    this.end();
    if (!isFirstClick) {
      drawing.value = false;
      const subject = addDrawn(box);
      if (subject) focusBox(subject.key);
    } else if (drawing.value) {
      this.corner = now.from;
      drawn.value = between(now.from, now.from);
    } else chosen.value = null;
  }

  private showDrop(event: DragEvent): void {
    const subject = carriedSubject();
    if (!subject || !event.dataTransfer?.types.includes(CARD) || !this.may()) return;
    event.preventDefault();
    const { box } = subject;
    const there = centred(this.at(event), box ? sideOf(box, "width") : DROPPED, box ? sideOf(box, "height") : DROPPED);
    const snapped = snapMove(there, linesBut(subject.key), this.reach(event));
    drawn.value = snapped.box;
    guides.value = snapped;
  }

  private drop(event: DragEvent): void {
    const subject = carriedSubject();
    const box = drawn.value;
    if (!subject || !box) return;
    event.preventDefault();
    this.end();
    setSubject(subject.key, { box });
    chosen.value = subject.key;
    focusBox(subject.key);
  }
}

/** What a box snaps to: all but its own lines. */
const linesBut = (key?: string) => linesOf(boxesOf(doc.value.subjects, key));

/** A box that is drawn from a corner to a point. */
function stretched(corner: Point, to: Point, reach: Point) {
  const side = `${to.y < corner.y ? "n" : "s"}${to.x < corner.x ? "w" : "e"}` as Handle;
  return snapResize(between(corner, to), side, linesBut(), reach);
}

/** The box of a subject that is moved or resized by so much; null for a painted one, which stays. */
function changed(now: Exclude<Gesture, { kind: "draw" }>, { x, y }: Point, reach: Point) {
  const { key, box, mask } = now.subject;
  if (mask) return null;
  const lines = linesBut(key);
  if (now.kind === "move") return snapMove(move(box!, x, y), lines, reach);
  return snapResize(resize(box!, now.handle, x, y), now.handle, lines, reach);
}

const carriedSubject = (): Subject | undefined =>
  doc.value.subjects.find(({ key, scene, locked, mask }) => key === carried.value && !scene && !locked && !mask);

/** Choose what lies behind the chosen box. */
function chooseNext(hits: number[]): void {
  const { subjects } = doc.value;
  const next = cycle(hits, subjects.findIndex(({ key }) => key === chosen.value));
  if (next === undefined) return;
  chosen.value = subjects[next]!.key;
  focusBox(chosen.value);
}

/** The same for the centre of the chosen box, without a pointer. */
export function chooseBehind(): void {
  const { subjects } = doc.value;
  const box = subjects.find(({ key }) => key === chosen.value)?.box;
  if (box) chooseNext(hit(subjects.map(boxOf), { x: (box[0] + box[2]) / 2, y: (box[1] + box[3]) / 2 }));
}
