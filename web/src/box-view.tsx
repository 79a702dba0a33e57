import { type Box, describe, type Handle, HANDLES, move, type Point, resize } from "./boxes.ts";
import { boxOf, chosen, duplicate, removeBox, setSubject, shiftOrder, spoken, type Subject } from "./document.ts";
import { focusBox, keepFocus } from "./focus.ts";
import { isBlank, markMissing, pictureOf } from "./pictures.ts";

const STEP = 0.01;
const LARGE_STEP = 0.05;
const ARROWS: Record<string, Point> = {
  ArrowLeft: { x: -1, y: 0 },
  ArrowRight: { x: 1, y: 0 },
  ArrowUp: { x: 0, y: -1 },
  ArrowDown: { x: 0, y: 1 },
};
const HANDLE_NAMES: Record<Handle, string> = {
  nw: "top left corner",
  n: "top edge",
  ne: "top right corner",
  e: "right edge",
  se: "bottom right corner",
  s: "bottom edge",
  sw: "bottom left corner",
  w: "left edge",
};

/** Describes the keys of a box to those who cannot see them listed. */
export function BoxKeys() {
  return (
    <p id="box-keys" hidden>
      Arrow keys move it, with Alt they resize it, with Shift in larger steps. Delete removes it, Control and D duplicates it, square brackets change the
      order, L locks it.
    </p>
  );
}

export const placed = ([left, top, right, bottom]: Box) => ({
  left: `${left * 100}%`,
  top: `${top * 100}%`,
  width: `${(right - left) * 100}%`,
  height: `${(bottom - top) * 100}%`,
});

/** Remove a box by a key or a button; the next one has the focus then. */
export function discard(subject: Subject): void {
  if (subject.locked) return;
  keepFocus(() => removeBox(subject));
  spoken.value = `The box of ${subject.phrase || "unnamed"} is removed`;
}

export function duplicateFocused(subject: Subject): void {
  const copy = duplicate(subject);
  if (copy) focusBox(copy.key);
}

/** The painted shape of a subject, over the whole picture. */
export function Shape({ subject: { mask, scene, colour } }: { subject: Subject }) {
  if (!mask || scene) return null;
  const { url, state } = pictureOf(mask);
  if (state === "missing") return null;
  const image = `url("${url}")`;
  return (
    <>
      <i class="shape" style={{ "--colour": `var(--c${colour % 8})`, maskImage: image }} />
      <img src={url} alt="" hidden onError={() => void markMissing(mask)} />
    </>
  );
}

export function BoxView({ subject, order }: { subject: Subject; order: number }) {
  const box = boxOf(subject);
  if (!box) return null;
  const { key, phrase, pictures, locked, mask, colour } = subject;
  const fixed = locked || mask !== undefined;
  const isChosen = chosen.value === key;
  const picture = pictures[0] !== undefined ? pictureOf(pictures[0]) : undefined;

  function change(next: Box) {
    if (fixed) return;
    setSubject(key, { box: next }, "box");
    spoken.value = describe(phrase, next);
  }

  function onKeyDown(event: KeyboardEvent) {
    const arrow = ARROWS[event.key];
    const held = (event.target as HTMLElement).dataset.handle as Handle | undefined;
    const command = event.ctrlKey || event.metaKey;
    if (arrow) {
      const step = event.shiftKey ? LARGE_STEP : STEP;
      const handle = held ?? (event.altKey ? "se" : undefined);
      change(handle ? resize(box!, handle, arrow.x * step, arrow.y * step) : move(box!, arrow.x * step, arrow.y * step));
    } else if (event.key === "Delete" || event.key === "Backspace") discard(subject);
    else if (event.key === "d" && command) duplicateFocused(subject);
    else if (event.key === "]") shiftOrder(key, 1);
    else if (event.key === "[") shiftOrder(key, -1);
    else if (event.key === "l" && !command) setSubject(key, { locked: !locked });
    else return;
    event.preventDefault();
  }

  return (
    <div class="box" data-chosen={isChosen} data-locked={locked} data-painted={mask !== undefined} style={{ ...placed(box), "--colour": `var(--c${colour % 8})`, zIndex: isChosen ? 50 : order + 1 }} onKeyDown={onKeyDown}>
      {picture && !isBlank(picture) && <img src={picture.url} alt="" draggable={false} onError={() => void markMissing(pictures[0]!)} />}
      <button
        type="button"
        class="grip"
        data-key={key}
        aria-label={describe(phrase, box) + (mask ? ", painted" : "") + (locked ? ", locked" : "")}
        aria-pressed={isChosen}
        aria-describedby="box-keys"
        onFocus={() => (chosen.value = key)}
      />
      <span class="tag" aria-hidden="true">
        {phrase || "unnamed"}
      </span>
      {isChosen &&
        !fixed &&
        HANDLES.map((handle) => (
          <button key={handle} type="button" class={`handle ${handle}`} data-handle={handle} tabIndex={-1} aria-label={`${HANDLE_NAMES[handle]} of ${phrase || "unnamed"}`} />
        ))}
    </div>
  );
}
