import { signal } from "@preact/signals";
import { api, MsdError } from "msd-client";

import type { Subject } from "./document.ts";
import { named } from "./pictures.ts";
import { client } from "./service.ts";

export type Member = NonNullable<Awaited<ReturnType<typeof api.getCast>>["data"]>;
type Kept = NonNullable<Parameters<typeof api.putCast>[0]["body"]>;

const MOST = 100;
/** Subjects that the service keeps under a name; null before they are read. */
export const cast = signal<Member[] | null>(null);

/** Read the cast, those that were changed last first. */
export async function readCast(): Promise<void> {
  const { data, error, response } = await api.listCast({ client: client.http, query: { limit: MOST } });
  if (!data) throw failed(error, response);
  cast.value = data.cast;
}

export async function memberOf(name: string): Promise<Member> {
  const { data, error, response } = await api.getCast({ client: client.http, path: { name } });
  if (!data) throw failed(error, response);
  return data;
}

/** Keep a subject under a name, in place of the one that has it. */
export async function keepInCast(name: string, { phrase, pictures, cutout, scale }: Subject): Promise<void> {
  const images = await Promise.all(pictures.map(named));
  const body = { phrase, ...(images.length === 1 ? { image: images[0] } : { images }), ...(cutout && { cutout }), ...(scale !== undefined && { scale }) } as Kept;
  const { data, error, response } = await api.putCast({ client: client.http, path: { name }, body });
  if (!data) throw failed(error, response);
  if (cast.value) cast.value = [data, ...cast.value.filter((member) => member.name !== data.name)];
}

export async function removeFromCast(name: string): Promise<void> {
  await api.deleteCast({ client: client.http, path: { name } });
  await readCast();
}

/** What a member gives a subject. */
export const castSubject = ({ name, phrase, pictures, cutout, scale }: Member) => ({
  phrase,
  pictures: pictures.map(({ sha256 }, index) => `cast:${name}/${index}/${sha256}`),
  ...(cutout && { cutout }),
  ...(scale !== null && { scale }),
});

/** A name that the cast takes, made of a phrase. */
export const nameOf = (phrase: string): string => phrase.normalize("NFKD").replace(/[^A-Za-z0-9]+/g, "-").replace(/^-+|-+$/g, "").toLowerCase().slice(0, 64);

function failed(problem: unknown, response: Response | undefined): MsdError {
  const { detail, errors } = (problem ?? {}) as { detail?: string; errors?: MsdError["errors"] };
  return new MsdError({ status: response?.status ?? 0, code: "", detail: errors?.[0]?.detail ?? detail ?? "The service cannot be reached." });
}
