import { computed, effect, signal } from "@preact/signals";
import type { api } from "msd-client";

import { type Box, freePlace, move, overlap, reordered, secondPlace, type Size } from "./boxes.ts";
import { edited, type History, redone, started, undone } from "./history.ts";
import { soundDocument } from "./sound.ts";
import { recall, remember } from "./storage.ts";

type Body = NonNullable<Parameters<typeof api.generate>[0]["body"]>;
/** Fields of a request that stand under "More options", by their names in the API; those left out have the model's values. */
export type Options = Partial<
  Pick<
    Body,
    | "negative_prompt"
    | "width"
    | "height"
    | "num_inference_steps"
    | "guidance_scale"
    | "scale"
    | "seed"
    | "num_images"
    | "preset"
    | "scheduler"
    | "loras"
    | "score"
    | "retries"
    | "output_format"
    | "start"
    | "controls"
  >
>;

export interface Subject {
  key: string;
  phrase: string;
  /** Keys of its pictures, see `pictures.ts`. */
  pictures: string[];
  box: Box | null;
  /** Key of the picture of its painted shape, which acts in place of the box around it. */
  mask?: string | undefined;
  /** What the picture shows there, in place of the document's prompt; with it, it needs no picture. */
  prompt?: string | undefined;
  scale?: number;
  cutout?: boolean;
  /** Its picture is the place; it has no box. */
  scene?: boolean;
  locked?: boolean;
  /** Other fields of the API, as a recipe had them. */
  rest?: Record<string, unknown>;
  /** Number of its colour. */
  colour: number;
}

/** What a person edits. Subjects stand from back to front. */
export interface Document {
  prompt: string;
  subjects: Subject[];
  options: Options;
}

export const MAX_SUBJECTS = 16;
const KEPT_AS = "msd.document";
export const EMPTY: Document = { prompt: "", subjects: [], options: {} };

const history = signal<History<Document>>(started(EMPTY));
export const doc = computed(() => history.value.now);
export const isFull = computed(() => doc.value.subjects.length >= MAX_SUBJECTS);
export const mayUndo = computed(() => history.value.past.length > 0);
export const mayRedo = computed(() => history.value.future.length > 0);
/** Key of the chosen subject. */
export const chosen = signal<string | null>(null);
/** A box while it is dragged: no edit yet. */
export const dragged = signal<{ key: string; box: Box } | null>(null);
/** What a screen reader is told. */
export const spoken = signal("");

/** The words that a subject brings for its place; undefined where there are none but blanks. */
export const ownWords = ({ prompt }: Pick<Subject, "prompt">): string | undefined => (prompt?.trim() ? prompt : undefined);

export const boxOf = (subject: Subject): Box | null =>
  dragged.value?.key === subject.key ? dragged.value.box : subject.scene ? null : subject.box;

/** The document of the last visit, if there was one. */
export function restoreKept(): boolean {
  const kept = soundDocument(recall(KEPT_AS));
  if (kept) history.value = started(kept);
  return kept !== null;
}

/** Keep the document for the next visit. */
export function keepAlways(): void {
  effect(() => remember(KEPT_AS, doc.value));
}

export function edit(change: (document: Document) => Document, tag = ""): void {
  history.value = edited(history.value, change(doc.value), tag, Date.now());
}
export function start(document: Document): void {
  history.value = started(document);
  chosen.value = null;
}
export function undo(): void {
  history.value = undone(history.value);
}
export function redo(): void {
  history.value = redone(history.value);
}

/** Give a picture another key wherever it stands, also in what undo brings back: no edit. */
export function renamePicture(old: string, key: string): void {
  const renamed = (document: Document) =>
    JSON.stringify(document).includes(JSON.stringify(old)) ? withKeys(document, (one) => (one === old ? key : one)) : document;
  const { past, now, future, ...others } = history.value;
  history.value = { past: past.map(renamed), now: renamed(now), future: future.map(renamed), ...others };
}

/** A document whose pictures have other keys. */
export function withKeys(document: Document, keyOf: (key: string) => string): Document {
  const { start, controls, ...options } = document.options;
  return {
    ...document,
    // The same picture twice is once enough.
    subjects: document.subjects.map((subject) => ({ ...subject, pictures: [...new Set(subject.pictures.map(keyOf))], ...(subject.mask && { mask: keyOf(subject.mask) }) })),
    options: {
      ...options,
      ...(start && { start: { ...start, image: keyOf(start.image) } }),
      ...(controls && { controls: controls.map((control) => ({ ...control, image: keyOf(control.image) })) }),
    },
  };
}

export const setPrompt = (prompt: string): void => edit((document) => ({ ...document, prompt }), "prompt");

/** Add words to the end of the prompt, or take them out where they stand. */
export function togglePromptWords(words: string): void {
  const { prompt } = doc.value;
  const without = prompt.replace(words, "").replace(/\s{2,}/g, " ").trim();
  edit((document) => ({ ...document, prompt: prompt.includes(words) ? without : `${prompt.trimEnd()} ${words}`.trim() }));
}

/** Set options; undefined gives one back to the model. */
export function setOptions(options: { [Name in keyof Options]: Options[Name] | undefined }): void {
  edit((document) => {
    const merged = Object.entries({ ...document.options, ...options }).filter(([, value]) => value !== undefined);
    return { ...document, options: Object.fromEntries(merged) as Options };
  }, Object.keys(options).join());
}

export function setSubject(key: string, change: Partial<Subject>, tag = ""): void {
  const changed = (subject: Subject) => (subject.key === key ? { ...subject, ...change } : subject);
  edit((document) => ({ ...document, subjects: document.subjects.map(changed) }), tag && `${key} ${tag}`);
}

export function addSubject(given: Partial<Subject> = {}, tag = ""): Subject {
  const { subjects } = doc.value;
  const used = new Set(subjects.map(({ colour }) => colour));
  let colour = 0;
  while (used.has(colour)) colour++;
  const key = newKey();
  const room = given.box === undefined && !given.scene ? makeRoom(subjects) : { subjects, box: freePlace(boxesOf(subjects)) };
  const subject: Subject = { phrase: "", pictures: [], box: room.box, ...given, key, colour };
  edit((document) => ({ ...document, subjects: [...room.subjects, subject] }), tag);
  chosen.value = key;
  return subject;
}

/** A place for a new subject: beside the first, which moves aside if nobody has placed it, or in the free middle. */
function makeRoom(subjects: Subject[]): { subjects: Subject[]; box: Box } {
  const boxes = boxesOf(subjects);
  const first = subjects.find(({ box, scene }) => box && !scene);
  const pair = boxes.length === 1 && first && !first.locked && !first.mask ? secondPlace(boxes[0]!) : null;
  if (!pair) return { subjects, box: freePlace(boxes) };
  return { subjects: subjects.map((one) => (one === first ? { ...one, box: pair[0] } : one)), box: pair[1] };
}

export function removeSubject(key: string): void {
  edit((document) => ({ ...document, subjects: document.subjects.filter((subject) => subject.key !== key) }));
  if (chosen.value === key) chosen.value = null;
}

/** Remove a box; a subject that is nothing but its box goes too. */
export function removeBox(subject: Subject): void {
  const { key, phrase, pictures, locked } = subject;
  if (locked) return;
  if (phrase === "" && pictures.length === 0 && !ownWords(subject)) removeSubject(key);
  else setSubject(key, { box: null, mask: undefined });
}

/** Another subject like it, beside it; null if there is no room for one. */
export function duplicate(subject: Subject): Subject | null {
  if (isFull.value) return null;
  return addSubject({ ...subject, locked: false, box: subject.box && move(subject.box, 0.04, 0.04) });
}

/** Move a subject to the front (1) or to the back (-1) by one. */
export function shiftOrder(key: string, by: 1 | -1): void {
  const { subjects } = doc.value;
  const from = subjects.findIndex((subject) => subject.key === key);
  const to = from + by;
  if (to < 0 || to >= subjects.length) return;
  edit((document) => ({ ...document, subjects: reordered(document.subjects, from, to) }));
}

/** Give a box that was drawn to the chosen subject if it has none, otherwise to a new one; null if there is no room for one. */
export function addDrawn(box: Box): Subject | null {
  const waiting = doc.value.subjects.find(({ key, box, scene }) => key === chosen.value && box === null && !scene);
  if (waiting === undefined) return isFull.value ? null : addSubject({ box });
  setSubject(waiting.key, { box });
  return waiting;
}

export const boxesOf = (subjects: Subject[], but?: string): Box[] =>
  subjects.flatMap(({ key, box, scene }) => (box && !scene && key !== but ? [box] : []));

/** Whether any two boxes overlap: then it matters who is in front. */
export function overlaps(subjects: Subject[]): boolean {
  const boxes = boxesOf(subjects);
  return boxes.some((box, index) => boxes.slice(0, index).some((other) => overlap(box, other) > 0));
}

export const sizeOf = ({ width, height }: Options, own: Size): Size => ({
  width: width ?? own.width,
  height: height ?? own.height,
});

/** `crypto.randomUUID` is missing in pages that came over plain HTTP. */
export const newKey = (): string =>
  Array.from(crypto.getRandomValues(new Uint8Array(6)), (byte) => byte.toString(16).padStart(2, "0")).join("");
