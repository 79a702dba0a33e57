import { type GenerateInput, MsdError } from "msd-client";

import { type Document, overlaps, ownWords, type Subject } from "./document.ts";
import { named } from "./pictures.ts";

/** The request of a document, as the client takes it, with its pictures as assets. A picture that is refused is an error at its pointer. */
export async function requestOf({ prompt, subjects, options }: Document): Promise<GenerateInput> {
  const ordered = overlaps(subjects) || subjects.some(({ scene }) => scene);
  const { start, controls, ...others } = options;
  return {
    prompt,
    subjects: await Promise.all(subjects.map((subject, index) => subjectOf(subject, index, ordered))),
    ...others,
    ...(start && { start: { ...start, image: await namedAt(start.image, "/start/image") } }),
    ...(controls && {
      controls: await Promise.all(controls.map(async (control, index) => ({ ...control, image: await namedAt(control.image, `/controls/${index}/image`) }))),
    }),
  };
}

async function subjectOf(subject: Subject, index: number, ordered: boolean) {
  const { phrase, pictures, box, mask, scale, cutout, scene, rest } = subject;
  const prompt = ownWords(subject);
  const several = pictures.length > 1;
  const pointer = `/subjects/${index}/image`;
  const sent = await Promise.all(pictures.map((picture, position) => namedAt(picture, several ? `${pointer}s/${position}` : pointer)));
  return {
    ...rest,
    // A subject of the cast has its own.
    ...((phrase !== "" || rest?.cast === undefined) && { phrase }),
    ...(several ? { images: sent } : sent.length === 1 ? { image: sent[0]! } : {}),
    ...(scene ? { scene: true } : mask ? { mask: await namedAt(mask, `/subjects/${index}/mask`) } : box && { box }),
    ...(prompt && { prompt }),
    ...(scale !== undefined && { scale }),
    ...(cutout && { cutout: true }),
    ...(ordered && { z_index: scene ? 0 : index + 1 }),
  };
}

const namedAt = (picture: string, pointer: string): Promise<string> =>
  named(picture).catch((error: unknown) => {
    throw error instanceof MsdError ? error.at(pointer) : error;
  });
