import { signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";

import { clamp, type Point } from "./boxes.ts";
import { canvasOf, draw, drawAll, maskOf, readMask } from "./canvas.ts";
import { setSubject, spoken, type Subject } from "./document.ts";
import { Segments } from "./fields.tsx";
import { focusBox } from "./focus.ts";
import { edited, type History, redone, started, undone } from "./history.ts";
import { IconButton } from "./icons.tsx";
import { painted, painting } from "./painting.ts";
import { pictureOf, take } from "./pictures.ts";
import { asked } from "./session.ts";
import { type Mark, resized, SIZES } from "./strokes.ts";
import { size } from "./view.ts";
import "./painter.css";

const brush = signal(SIZES.usual);
const erasing = signal(false);
const marks = signal<History<Mark[]>>(started([]));
/** Where the brush is. */
const at = signal<Point>({ x: 0.5, y: 0.5 });
let canvas: HTMLCanvasElement;
let base: HTMLCanvasElement | null = null;

const STEP = 0.02;
const LARGE_STEP = 0.08;

function add(mark: Mark): void {
  marks.value = edited(marks.value, [...marks.value.now, mark], "", 0);
  drawAll(canvas, marks.value.now, base);
}
function change(to: History<Mark[]>): void {
  marks.value = to;
  drawAll(canvas, to.now, base);
}
const undo = () => change(undone(marks.value));
const redo = () => change(redone(marks.value));

function close(key: string): void {
  painting.value = null;
  focusBox(key);
}

/** Take what is painted as the shape of a subject. */
async function finish({ key, phrase }: Subject): Promise<void> {
  const mask = await maskOf(canvas);
  if (!mask) return void (spoken.value = "Nothing is painted");
  const { blob, box } = mask;
  setSubject(key, { mask: take(blob), box });
  spoken.value = `The shape of ${phrase || "unnamed"} is painted`;
  close(key);
}

/** The surface over the stage on which a subject's shape is painted. */
export function Painter() {
  const subject = painted.value;
  const key = subject?.key;
  const surface = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (!subject) return;
    begin(surface.current!, subject);
    // The dialog that asks for a key has its own.
    const onKey = (event: KeyboardEvent) => asked.value === "no" && steer(event, subject);
    addEventListener("keydown", onKey, { capture: true });
    return () => removeEventListener("keydown", onKey, { capture: true });
  }, [key]);
  const strokes = useStrokes(surface);
  if (!subject) return null;
  const { width, height } = size.value;
  const shorter = Math.min(width, height);
  return (
    <div
      ref={surface}
      class="painter"
      role="application"
      tabIndex={0}
      aria-label={`Shape of ${subject.phrase || "unnamed"}`}
      aria-describedby="painter-keys"
      style={{ "--colour": `var(--c${subject.colour % 8})` }}
      {...strokes}
    >
      <i
        class="brush"
        data-erasing={erasing.value}
        style={{ left: `${at.value.x * 100}%`, top: `${at.value.y * 100}%`, width: `${(brush.value * shorter * 100) / width}%` }}
      />
      <p id="painter-keys" hidden>
        Arrow keys move the brush, with Shift in larger steps; Space paints there; square brackets change its size; E erases; Enter takes the shape,
        Escape leaves.
      </p>
    </div>
  );
}

/** Begin with what was painted before. */
function begin(surface: HTMLElement, { mask }: Subject): void {
  canvas = canvasOf(size.value);
  base = null;
  erasing.value = false;
  marks.value = started<Mark[]>(mask ? [{ kind: "base" }] : []);
  surface.prepend(canvas);
  surface.focus();
  if (!mask) return;
  void readMask(pictureOf(mask).url, size.value)
    .then((read) => {
      base = read;
      drawAll(canvas, marks.value.now, base);
    })
    .catch(() => undefined);
}

const ARROWS: Record<string, Point> = {
  ArrowLeft: { x: -1, y: 0 },
  ArrowRight: { x: 1, y: 0 },
  ArrowUp: { x: 0, y: -1 },
  ArrowDown: { x: 0, y: 1 },
};

/** All keys, so that undo is that of the strokes; those of the brush only where no button has the focus. */
function steer(event: KeyboardEvent, subject: Subject): void {
  const command = event.ctrlKey || event.metaKey;
  const onSurface = (event.target as HTMLElement).matches(".painter");
  const arrow = ARROWS[event.key];
  if (command && event.key.toLowerCase() === "z") (event.shiftKey ? redo : undo)();
  else if (command && event.key.toLowerCase() === "y") redo();
  else if (event.key === "Escape") close(subject.key);
  else if (!onSurface || command) return;
  else if (arrow) {
    const step = event.shiftKey ? LARGE_STEP : STEP;
    const to = { x: clamp(at.value.x + arrow.x * step, 0, 1), y: clamp(at.value.y + arrow.y * step, 0, 1) };
    at.value = to;
  } else if (event.key === " ") add({ kind: "stroke", points: [at.value], size: brush.value, erases: erasing.value });
  else if (event.key === "]") brush.value = resized(brush.value, 1);
  else if (event.key === "[") brush.value = resized(brush.value, -1);
  else if (event.key.toLowerCase() === "e") erasing.value = !erasing.value;
  else if (event.key === "Enter") void finish(subject);
  else return;
  event.preventDefault();
  event.stopImmediatePropagation();
}

/** What a mouse, a pen or a finger paints. */
function useStrokes(surface: { current: HTMLDivElement | null }) {
  const stroke = useRef<(Mark & { kind: "stroke" }) | null>(null);
  const pointOf = ({ clientX, clientY }: PointerEvent): Point => {
    const { left, top, width, height } = surface.current!.getBoundingClientRect();
    return { x: (clientX - left) / width, y: (clientY - top) / height };
  };
  return {
    onPointerDown(event: PointerEvent) {
      event.stopPropagation();
      if (!event.isPrimary || event.button !== 0) return;
      surface.current!.setPointerCapture(event.pointerId);
      at.value = pointOf(event);
      stroke.current = { kind: "stroke", points: [at.value], size: brush.value, erases: erasing.value };
      draw(canvas, stroke.current, base);
    },
    onPointerMove(event: PointerEvent) {
      event.stopPropagation();
      at.value = pointOf(event);
      if (!stroke.current) return;
      stroke.current.points.push(at.value);
      draw(canvas, stroke.current, base, stroke.current.points.length - 2);
    },
    onPointerUp(event: PointerEvent) {
      event.stopPropagation();
      if (stroke.current) add(stroke.current);
      stroke.current = null;
    },
    onPointerCancel() {
      stroke.current = null;
      drawAll(canvas, marks.value.now, base);
    },
  };
}

/** In place of the stage's tools. */
export function PainterTools() {
  const subject = painted.value;
  if (!subject) return null;
  const { past, now, future } = marks.value;
  const { box, mask } = subject;
  return (
    <div class="tools" role="toolbar" aria-label="Tools of the brush">
      <IconButton icon="undo" label="Undo a stroke" disabled={past.length === 0} onClick={undo} />
      <IconButton icon="redo" label="Redo a stroke" disabled={future.length === 0} onClick={redo} />
      <i />
      <Segments label="What the brush does" value={erasing.value ? "erase" : "paint"} options={[["paint", "Paint"], ["erase", "Erase"]]} onChange={(value) => (erasing.value = value === "erase")} />
      <label class="faint">
        Brush
        <input
          type="range"
          aria-label="Size of the brush"
          min={SIZES.least}
          max={SIZES.most}
          step={0.01}
          value={brush.value}
          aria-valuetext={`${Math.round(brush.value * 100)} percent of the picture`}
          onInput={({ currentTarget }) => (brush.value = Number(currentTarget.value))}
        />
      </label>
      {box && !mask && (
        <button type="button" class="act" onClick={() => add({ kind: "fill", box })}>
          Fill the box
        </button>
      )}
      <button type="button" class="act" disabled={now.length === 0} onClick={() => change(edited(marks.value, [], "", 0))}>
        Clear
      </button>
      <span class="spring" />
      <button type="button" class="act" onClick={() => close(subject.key)}>
        Cancel
      </button>
      <button type="button" class="act take" disabled={now.length === 0} onClick={() => void finish(subject)}>
        Use this shape
      </button>
    </div>
  );
}
