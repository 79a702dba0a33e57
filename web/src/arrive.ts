import { MsdError } from "msd-client";

import { sideBySide } from "./boxes.ts";
import { castSubject, memberOf } from "./cast.ts";
import { addSubject, chosen, doc, type Document, edit, MAX_SUBJECTS, newKey, setSubject, type Subject } from "./document.ts";
import { imported } from "./imports.ts";
import { leftOutWords } from "./messages.ts";
import { forgetPicture, pictureOf, take } from "./pictures.ts";
import { documentOf } from "./recipe.ts";
import { client, type Inspection } from "./service.ts";
import { note, size, tab, view } from "./view.ts";

export const MAX_PICTURES = 8;

/** Put files on a card, in place of those that are missing there. */
export function addPictures(subject: string, files: Blob[]): void {
  const { pictures = [] } = doc.peek().subjects.find(({ key }) => key === subject) ?? {};
  const here = pictures.filter((key) => pictureOf(key).state !== "missing");
  setSubject(subject, { pictures: [...here, ...files.map(take)].slice(0, MAX_PICTURES) });
}

/** What pictures become that are dropped or pasted anywhere: one that was made here gives its whole request, others are subjects. */
export async function arrive(files: File[]): Promise<void> {
  const found = files.length === 1 ? await inspected(files[0]!).catch(() => undefined) : undefined;
  if (!found?.recipe) return addCards(files);
  for (const hash of found.missing) forgetPicture(`sha256:${hash}`);
  const { length } = found.missing;
  const asked = length === 0 ? "" : ` ${length === 1 ? "One picture is" : `${length} pictures are`} no longer on the service: the cards in red ask for ${length === 1 ? "it" : "them"}.`;
  const { document, leftOut } = documentOf(found.recipe);
  show(document, `The request of this picture is restored.${leftOutWords(leftOut)}${asked}`);
}

async function inspected(picture: File): Promise<Inspection | undefined> {
  const form = new FormData();
  form.append("picture", picture);
  const headers = { "Content-Type": null };
  return (await client.http.post<{ 200: Inspection }>({ url: "/inspect", body: form, bodySerializer: null, headers })).data;
}

/** A card for each file, as long as there is room. */
export function addCards(files: File[]): void {
  const { subjects } = doc.peek();
  const room = MAX_SUBJECTS - subjects.length;
  const added = files.slice(0, room);
  const places = subjects.length === 0 ? sideBySide(added.length) : [];
  // Undo takes them back together.
  const tag = `files ${newKey()}`;
  added.forEach((file, index) => addSubject({ phrase: phraseOf(file.name), pictures: [take(file)], ...(places[index] && { box: places[index] }) }, tag));
  tab.value = "subjects";
  if (files.length > room) note(`A picture has at most ${MAX_SUBJECTS} subjects.`);
}

/** A first guess of the words for a picture: the name of its file, if that is made of words. */
function phraseOf(name: string): string {
  const words = name.replace(/\.\w+$/, "").replace(/[-_]+/g, " ").trim().toLowerCase();
  return /\d|^(image|picture|photo|unbenannt|untitled|screenshot)/.test(words) || words.length > 40 ? "" : words;
}

/** Show what pasted JSON describes; whether it describes anything. */
export function arriveText(text: string): boolean {
  const found = imported(text, doc.peek(), size.peek());
  if (found) void complete(found.document).then((whole) => show(whole, `What you pasted is shown; Undo brings back what was here.${leftOutWords(found.leftOut)}`));
  return found !== null;
}

function show(document: Document, words: string): void {
  edit(() => document);
  chosen.value = null;
  view.value = "layout";
  tab.value = "subjects";
  note(words);
}

/** Take the pictures that stand in the JSON itself, and what the cast knows of its members. */
async function complete(document: Document): Promise<Document> {
  const subjects = await Promise.all(document.subjects.map(ofCast));
  const { start, controls, ...options } = document.options;
  return {
    ...document,
    subjects: subjects.map((subject) => ({ ...subject, pictures: subject.pictures.map(adopted), ...(subject.mask && { mask: adopted(subject.mask) }) })),
    options: {
      ...options,
      ...(start && { start: { ...start, image: adopted(start.image) } }),
      ...(controls && { controls: controls.map((control) => ({ ...control, image: adopted(control.image) })) }),
    },
  };
}

async function ofCast(subject: Subject): Promise<Subject> {
  const { cast, ...rest } = subject.rest ?? {};
  if (typeof cast !== "string") return subject;
  try {
    const { phrase, pictures, ...others } = castSubject(await memberOf(cast));
    const { rest: _, ...own } = subject;
    return { ...others, ...own, ...(Object.keys(rest).length > 0 && { rest }), phrase: subject.phrase || phrase, pictures: subject.pictures.length > 0 ? subject.pictures : pictures };
  } catch (error) {
    // The service says so at the card when the picture is made.
    if (error instanceof MsdError || error instanceof TypeError) return subject;
    throw error;
  }
}

/** The key of a picture of a request. */
function adopted(image: string): string {
  const [, type, base64] = /^\s*data:([^;,]*)[^,]*,(.*)$/is.exec(image) ?? [];
  try {
    if (base64 !== undefined) return take(new Blob([Uint8Array.from(atob(base64), (character) => character.charCodeAt(0))], { type: type! }));
  } catch {
    forgetPicture((image = "missing:"));
  }
  // The part of a form that is not here.
  if (image.startsWith("upload:")) forgetPicture(image);
  return image;
}
