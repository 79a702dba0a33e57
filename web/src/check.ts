import { effect, signal } from "@preact/signals";
import { api } from "msd-client";

import { doc, type Document } from "./document.ts";
import { named } from "./pictures.ts";
import { requestOf } from "./request.ts";
import { warnings } from "./run.ts";
import { client, model } from "./service.ts";

type Body = Parameters<typeof api.validateRequest>[0]["body"];
type Validation = NonNullable<Awaited<ReturnType<typeof api.validateRequest>>["data"]>;

/** What the service says of a document before it is sent. Of one that it would refuse that is where phrases stand, and no more. */
export const checked = signal<{ document: Document; phrases: Validation["phrases"]; seconds: number | null } | null>(null);

const PAUSE_MS = 400;
/** Any picture will do to be told where phrases stand. */
const STAND_IN = "demo:tomato";

/** Ask the service about the document after every edit. */
export function checkAlways(): void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  effect(() => {
    const document = doc.value;
    clearTimeout(timer);
    if (!model.value?.ready || document.prompt.trim() === "" || document.subjects.length === 0) return;
    timer = setTimeout(() => void check(document).catch(() => undefined), PAUSE_MS);
  });
}

async function check(document: Document): Promise<void> {
  const whole = await requestOf(document).then((request) => validated(request as Body), () => null);
  const known = whole ?? (await validated(await wordsOf(document)));
  if (document !== doc.peek()) return;
  checked.value = known && { document, phrases: known.phrases, seconds: whole?.expected_s ?? null };
  if (whole) warnings.value = whole.warnings;
}

async function validated(body: Body): Promise<Validation | null> {
  const { data } = await api.validateRequest({ client: client.http, body });
  return data ?? null;
}

/** A request with nothing but the words of a document, which the service takes whatever else is still missing. */
async function wordsOf({ prompt, subjects }: Document): Promise<Body> {
  const image = await named(STAND_IN);
  return { prompt, subjects: subjects.map(({ phrase }) => ({ phrase: phrase || "?", image, scene: true })) };
}

/** Where the prompt names a subject; undefined if that is not known. */
export function spanOf(index: number): [number, number] | null | undefined {
  const known = checked.value;
  if (known?.document.prompt !== doc.value.prompt) return undefined;
  const phrase = known.phrases[index];
  return phrase?.phrase === doc.value.subjects[index]?.phrase ? phrase?.span : undefined;
}
