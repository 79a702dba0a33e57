import { MsdError } from "./errors.js";
import type { Control, GenerateRequest, StartPicture, Subject } from "./generated/types.gen.js";

/**
 * A picture in one of the forms in which an app has it: a `File` or `Blob`, bytes (a `Buffer` too), a data URI, an
 * uploaded `asset:<id>`, the `sha256:<hash>` of a recipe, an `https://` address from which the service may fetch, or, in Node,
 * the path of a file.
 */
export type Picture = Blob | ArrayBuffer | Uint8Array<ArrayBuffer> | string;

export type SubjectInput = Omit<Subject, "image" | "images" | "mask"> & {
  image?: Picture | null;
  images?: Picture[] | null;
  mask?: Picture | null;
};
export type ControlInput = Omit<Control, "image"> & { image: Picture };
export type StartInput = Omit<StartPicture, "image"> & { image: Picture };

/** What to make: the body of `POST /generate`, with pictures in any form. */
export type GenerateInput = Omit<GenerateRequest, "subjects" | "controls" | "start"> & {
  subjects: SubjectInput[];
  controls?: ControlInput[] | null;
  start?: StartInput | null;
};

/** Gives a picture the text that stands for it in a request. */
export type Name = (picture: Picture) => Promise<string>;

/** The request as it is sent. An error in a picture points to the picture's place. */
export async function named(input: GenerateInput, name: Name): Promise<GenerateRequest> {
  const at = (picture: Picture, pointer: string) => name(picture).catch(pointTo(pointer));
  const subject = async ({ image, images, mask, ...rest }: SubjectInput, index: number) => {
    const pointer = `/subjects/${index}`;
    return {
      ...rest,
      ...(image && { image: await at(image, `${pointer}/image`) }),
      ...(images && { images: await Promise.all(images.map((each, i) => at(each, `${pointer}/images/${i}`))) }),
      ...(mask && { mask: await at(mask, `${pointer}/mask`) }),
    };
  };
  const { subjects, controls, start, ...rest } = input;
  return {
    ...rest,
    subjects: await Promise.all(subjects.map(subject)),
    ...(controls && {
      controls: await Promise.all(
        controls.map(async (control, i) => ({ ...control, image: await at(control.image, `/controls/${i}/image`) })),
      ),
    }),
    ...(start && { start: { ...start, image: await at(start.image, "/start/image") } }),
  } as GenerateRequest;
}

function pointTo(pointer: string) {
  return (error: unknown): never => {
    throw error instanceof MsdError ? error.at(pointer) : error;
  };
}

/** The bytes of a picture, or the text that names it already. */
export async function read(picture: Picture): Promise<Blob | string> {
  if (typeof picture !== "string") return picture instanceof Blob ? picture : new Blob([picture]);
  if (/^(\s*(data|asset|sha256):|https:\/\/)/i.test(picture)) return picture;
  try {
    return await readFile(picture);
  } catch (cause) {
    const detail = "This is no data URI and no asset, and there is no file at this path that can be read here.";
    throw new MsdError({ status: 0, code: "unreadable_picture", detail, cause });
  }
}

async function readFile(path: string): Promise<Blob> {
  // By a variable, so that bundlers for browsers do not look for it.
  const files = "node:fs/promises";
  const { readFile } = (await import(/* @vite-ignore */ /* webpackIgnore: true */ files)) as {
    readFile(path: string): Promise<Uint8Array<ArrayBuffer>>;
  };
  return new Blob([await readFile(path)]);
}
