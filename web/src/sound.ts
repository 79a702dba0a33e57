import { type Box, clamp, round, SMALLEST } from "./boxes.ts";
import type { Document, Options, Subject } from "./document.ts";

export type Fields = Record<string, unknown>;

export const isFields = (value: unknown): value is Fields => typeof value === "object" && value !== null && !Array.isArray(value);
const isText = (value: unknown): value is string => typeof value === "string";
const isNumber = (value: unknown): value is number => typeof value === "number" && Number.isFinite(value);
const isFlag = (value: unknown): value is boolean => typeof value === "boolean";
const isListOf = (value: unknown, fits: (one: unknown) => boolean): boolean => Array.isArray(value) && value.every(fits);

/** Which options can be shown, by their names in the API; others stand as they are. */
const FITS: { [name: string]: (value: unknown) => boolean } = {
  ...Object.fromEntries("width height num_inference_steps guidance_scale scale seed num_images retries".split(" ").map((name) => [name, isNumber])),
  ...Object.fromEntries("negative_prompt preset scheduler output_format".split(" ").map((name) => [name, isText])),
  score: isFlag,
  loras: (value) => isListOf(value, (lora) => isFields(lora) && isText(lora.name)),
  controls: (value) => isListOf(value, (control) => isFields(control) && isText(control.name) && isText(control.image)),
  start: (value) => isFields(value) && isText(value.image) && isListOf(value.redraw ?? [], isNumber),
};

/** The same of the values of a subject. */
const SUBJECT_FITS: { [name: string]: (value: unknown) => boolean } = {
  phrase: isText,
  pictures: (value) => isListOf(value, isText),
  box: (value) => soundBox(value) !== null,
  mask: isText,
  prompt: isText,
  scale: isNumber,
  cutout: isFlag,
  scene: isFlag,
};

/** A document, with the names of the values that could not be shown and are left out. */
export interface Sound {
  document: Document;
  leftOut: string[];
}

/** The document in what was kept, pasted or read from a file, which may be anything; null if there is none in it. */
export function sound(value: unknown): Sound | null {
  if (!isFields(value) || !Array.isArray(value.subjects)) return null;
  const options = Object.entries(isFields(value.options) ? value.options : {});
  const fits = ([name, option]: [string, unknown]) => !Object.hasOwn(FITS, name) || FITS[name]!(option);
  const keys = new Set<string>();
  const document = {
    prompt: isText(value.prompt) ? value.prompt : "",
    subjects: value.subjects.filter(isFields).map((fields, index) => soundSubject(fields, index, keys)),
    options: Object.fromEntries(options.filter(fits)) as Options,
  };
  const leftOut = [
    ...(isText(value.prompt ?? "") ? [] : ["prompt"]),
    ...value.subjects.flatMap(leftOutOf),
    ...options.filter((option) => !fits(option)).map(([name]) => name),
  ];
  return { document, leftOut };
}

export const soundDocument = (value: unknown): Document | null => sound(value)?.document ?? null;

/** Names of what is left out of the subject at an index. */
function leftOutOf(subject: unknown, index: number): string[] {
  if (!isFields(subject)) return [`subject ${index + 1}`];
  const name = isText(subject.phrase) && subject.phrase !== "" ? subject.phrase : `subject ${index + 1}`;
  const wrong = Object.keys(SUBJECT_FITS).filter((field) => !SUBJECT_FITS[field]!(subject[field]) && (subject[field] ?? null) !== null);
  return wrong.map((field) => `${field} of ${name}`);
}

function soundSubject(fields: Fields, index: number, keys: Set<string>): Subject {
  const { phrase, pictures, box, mask, prompt, scale, cutout, scene, locked, rest, colour } = fields;
  const key = isText(fields.key) && !keys.has(fields.key) ? fields.key : `subject-${index}`;
  keys.add(key);
  return {
    key,
    phrase: isText(phrase) ? phrase : "",
    pictures: Array.isArray(pictures) ? [...new Set(pictures.filter(isText))] : [],
    box: soundBox(box),
    colour: isNumber(colour) && colour >= 0 ? Math.floor(colour) : index,
    ...(isText(mask) && mask !== "" && { mask }),
    ...(isText(prompt) && prompt !== "" && { prompt }),
    ...(isNumber(scale) && { scale }),
    ...(cutout === true && { cutout }),
    ...(scene === true && { scene }),
    ...(locked === true && { locked }),
    ...(isFields(rest) && { rest }),
  };
}

/** The part of a box that lies within the picture; null if there is none. */
export function soundBox(box: unknown): Box | null {
  if (!isListOf(box, isNumber) || (box as Box).length !== 4) return null;
  const [left, top, right, bottom] = (box as Box).map((edge) => round(clamp(edge, 0, 1))) as Box;
  return right - left < SMALLEST || bottom - top < SMALLEST ? null : [left, top, right, bottom];
}
