import type { Box, Size } from "./boxes.ts";
import type { Document, Subject } from "./document.ts";
import { documentOf } from "./recipe.ts";
import { type Fields, isFields, type Sound, soundBox } from "./sound.ts";

/** Ideogram's whole picture. */
const IDEOGRAM_SIDE = 1000;
const IDEOGRAM_NAMES = ["high_level_description", "compositional_deconstruction", "background", "elements"];
const LONGEST_PHRASE = 200;

const textOf = (...values: unknown[]): string => values.find((value): value is string => typeof value === "string" && value !== "") ?? "";

/**
 * The document that pasted JSON makes of the present one: a request of ours or a recipe, a layout of Ideogram, or a list of ComfyUI's boxes.
 * Null for any other text. `size` is that of the picture, in pixels, if the JSON does not say it.
 */
export function imported(text: string, now: Document, size: Size): Sound | null {
  if (!/^\s*[[{]/.test(text)) return null;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return null;
  }
  if (Array.isArray(value)) return withBoxes(value.flat(1), now, size);
  if (!isFields(value)) return null;
  // Answers of /inspect and of /validate, and jobs as `GET /jobs/{id}/request` shows them.
  const request = [value, value.recipe, value.request].find((fields) => isFields(fields) && Array.isArray(fields.subjects));
  if (request) return documentOf(request as Fields, size);
  const { width, height, boxes, bboxes } = value;
  const listed = [boxes, bboxes].find(Array.isArray);
  if (listed) return withBoxes(listed.flat(1), now, typeof width === "number" && typeof height === "number" ? { width, height } : size);
  return ofIdeogram(value, now);
}

/** A layout as a prompt in JSON: what it describes in words, and elements with boxes `[y_min, x_min, y_max, x_max]` from 0 to 1000. */
function ofIdeogram(value: Fields, now: Document): Sound | null {
  const parts = isFields(value.compositional_deconstruction) ? value.compositional_deconstruction : value;
  if (!Array.isArray(parts.elements)) return null;
  const leftOut = Object.keys({ ...value, ...parts }).filter((name) => !IDEOGRAM_NAMES.includes(name));
  const subjects: Subject[] = [];
  for (const [index, element] of parts.elements.entries()) {
    // Words that the picture shows as writing are no subjects.
    if (!isFields(element) || element.type === "text") leftOut.push(isFields(element) ? `writing “${textOf(element.text, element.desc)}”` : `element ${index + 1}`);
    else {
      const phrase = phraseOf(textOf(element.desc));
      const [top, left, bottom, right] = numbers(element.bbox, 4)?.map((edge) => edge / IDEOGRAM_SIDE) ?? [];
      const box = soundBox([left, top, right, bottom]);
      if (!box && element.bbox !== undefined) leftOut.push(`bbox of ${phrase}`);
      subjects.push(subjectOf(phrase, box, subjects.length));
    }
  }
  return { document: { ...now, prompt: textOf(value.high_level_description, parts.background), subjects }, leftOut };
}

/** The first words of a description, without its article. */
const phraseOf = (description: string): string =>
  description.split(/[,.;:]/)[0]!.trim().replace(/^(an?|the)\s+/i, "").slice(0, LONGEST_PHRASE);

/** Boxes `{x, y, width, height}`: each for the subject of its label, or one without a box, or a new one. */
function withBoxes(list: unknown[], now: Document, size: Size): Sound | null {
  const given = list.filter(isFields).map((fields) => ({ fields, edges: numbers([fields.x, fields.y, fields.width, fields.height], 4) }));
  if (given.length === 0 || given.some(({ edges }) => !edges)) return null;
  const canvas = canvasOf(given.map(({ edges }) => edges!), size);
  let { subjects } = now;
  const leftOut: string[] = [];
  for (const { fields, edges } of given) {
    const [x, y, width, height] = edges as [number, number, number, number];
    const box = soundBox([x / canvas.width, y / canvas.height, (x + width) / canvas.width, (y + height) / canvas.height]);
    const metadata = isFields(fields.metadata) ? fields.metadata : {};
    const label = phraseOf(textOf(fields.label, fields.desc, fields.name, metadata.label, metadata.desc));
    if (!box) leftOut.push(`box of ${label || "no name"}`);
    const place = subjects.findIndex(({ phrase, box, scene }) => !scene && (label === "" ? box === null : phrase === label));
    subjects = place < 0 ? [...subjects, subjectOf(label, box, freeColour(subjects))] : subjects.map((subject, index) => (index === place ? { ...subject, box } : subject));
  }
  return { document: { ...now, subjects }, leftOut };
}

/** The picture that boxes were made for: fractions, or pixels of a picture of this shape. */
function canvasOf(boxes: number[][], { width, height }: Size): Size {
  if (boxes.flat().every((edge) => edge <= 1)) return { width: 1, height: 1 };
  const most = Math.max(...boxes.map(([x, y, wide, tall]) => Math.max((x! + wide!) / width, (y! + tall!) / height)));
  // Sizes that models are made for are powers of two apart.
  const times = most > 1 ? 2 ** Math.ceil(Math.log2(most)) : 1;
  return { width: width * times, height: height * times };
}

function numbers(list: unknown, count: number): number[] | null {
  const fit = Array.isArray(list) && list.length === count && list.every((one) => typeof one === "number" && Number.isFinite(one));
  return fit ? list : null;
}

const subjectOf = (phrase: string, box: Box | null, colour: number): Subject => ({ key: `pasted-${colour}`, phrase, pictures: [], box, colour });

function freeColour(subjects: Subject[]): number {
  let colour = 0;
  while (subjects.some((subject) => subject.colour === colour || subject.key === `pasted-${colour}`)) colour++;
  return colour;
}
