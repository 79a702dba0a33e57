import { signal } from "@preact/signals";
import { api, MsdClient } from "msd-client";

import { SERVICE, signedIn } from "./address.ts";
import { Gate } from "./gate.ts";
import { refusalOfKey, type RefusedKey } from "./messages.ts";
import { isFields } from "./sound.ts";
import { recall, remember } from "./storage.ts";

/** What is remembered of a session; its cookie is out of reach, and its key is forgotten. */
const NAME = "msd.session";
const NO_COOKIE = "This browser did not keep the session: allow cookies for this page, and send the key again.";

/** Whose session this browser has; null if none is known. */
export const owner = signal(ownerIn(recall(NAME)));
/** Whether a key is asked for: `again` if there was a session. */
export const asked = signal<"no" | "first" | "again">("no");

const gate = new Gate((request) => fetch(request), ask);
/** Fetch from the service, which may ask for a key first. */
export const reach = gate.fetch;
/** Says itself what is wrong with a key. */
const { http } = new MsdClient({ baseUrl: SERVICE });

function ownerIn(kept: unknown): string | null {
  if (!isFields(kept) || typeof kept.owner !== "string") return null;
  return typeof kept.until === "string" && Date.parse(kept.until) <= Date.now() ? null : kept.owner;
}

function ask(): void {
  asked.value = owner.value === null ? "first" : "again";
  forget();
}

function forget(): void {
  if (owner.value !== null) remember(NAME, null);
  owner.value = null;
}

function admit(name: string | null): void {
  owner.value = name;
  asked.value = "no";
  signedIn.value++;
  gate.open();
}

/** Exchange a key for a session; what is wrong with it, if anything is. */
export async function signIn(key: string): Promise<RefusedKey | undefined> {
  const { data, error, response } = await api.openSession({ client: http, headers: { "X-API-Key": key } });
  if (!data) return refusalOfKey(response?.status ?? 0, error, response?.headers.get("Retry-After") ?? null);
  const { response: kept } = await api.getSession({ client: http });
  if (kept?.status === 401) return { words: NO_COOKIE, seconds: 0 };
  remember(NAME, { owner: data.owner, until: data.expires_at });
  admit(data.owner);
  return undefined;
}

/** End the session; whether that is done. */
export async function signOut(): Promise<boolean> {
  const { response } = await api.closeSession({ client: http });
  if (!response?.ok) return false;
  forget();
  // Asks for the next key, if the service still wants one.
  void reach(`${SERVICE}/session`).catch(() => undefined);
  return true;
}

/** What other tabs do holds here, too. */
export function followOtherTabs(): void {
  addEventListener("storage", ({ key }) => {
    if (key !== NAME) return;
    const name = ownerIn(recall(NAME));
    if (name === null) owner.value = null;
    else admit(name);
  });
}

/** Whether a picture was refused for want of a key; it comes again when somebody has signed in. */
export async function isForbidden(url: string): Promise<boolean> {
  const before = signedIn.peek();
  await reach(url).catch(() => undefined);
  return before !== signedIn.peek();
}
