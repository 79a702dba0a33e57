import type { Box, Size } from "./boxes.ts";
import type { Subject } from "./document.ts";
import { type Fields, isFields, sound, type Sound } from "./sound.ts";

/** The document of a request or a recipe: the body of `POST /generate`. `size` is that of the picture if it does not say it, in pixels. */
export function documentOf(recipe: Fields, size?: Size): Sound {
  const { prompt, subjects, previews: _, ...rest } = recipe;
  const options = given(rest);
  const pixels = { width: Number(options.width ?? size?.width), height: Number(options.height ?? size?.height) };
  const order = (subject: unknown) => Number((isFields(subject) && subject.z_index) || 0);
  const ordered = (subjects as unknown[]).toSorted((a, b) => order(a) - order(b));
  let count = 0;
  return sound({ prompt, subjects: ordered.map((subject) => (isFields(subject) ? subjectOf(subject, count++, pixels) : subject)), options })!;
}

/** Its values may still be anything. */
function subjectOf(fields: Fields, index: number, size: Size): { [Name in keyof Subject]: unknown } {
  const { phrase, image, images, box, mask, prompt, scale, cutout, scene, z_index: _, ...rest } = given(fields);
  const others = rest as Fields;
  return {
    key: `recipe-${index}`,
    phrase,
    pictures: image ? [image] : images,
    box: boxOf(box, size),
    colour: index,
    mask,
    prompt,
    scale,
    cutout,
    scene,
    ...(Object.keys(others).length > 0 && { rest: others }),
  };
}

/** A box in any of the API's forms. */
function boxOf(box: unknown, { width, height }: Size): unknown {
  if (!isFields(box)) return box;
  const { xywh, pixels } = box as { xywh?: Box; pixels?: Box };
  if (Array.isArray(xywh)) return [xywh[0], xywh[1], xywh[0] + xywh[2], xywh[1] + xywh[3]];
  return Array.isArray(pixels) ? [pixels[0] / width, pixels[1] / height, pixels[2] / width, pixels[3] / height] : box;
}

/** The fields that are not null. */
const given = (fields: Fields): Fields => Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== null));
