import type { FinishedPicture } from "msd-client";

import type { Document } from "./document.ts";

/** A picture that was made, with what it was made of. */
export interface Kept {
  /** Id of its job and its position there. */
  key: string;
  /** Relative to the service's address. */
  url: string;
  blob?: Blob;
  seed: number;
  score: FinishedPicture["score"];
  width: number;
  height: number;
  document: Document;
  /** When it was made, in milliseconds. */
  at: number;
}

const STORE = "pictures";

/** The browser's database; undefined where it has none, as in some private windows. */
const database = new Promise<IDBDatabase>((resolve, reject) => {
  const opening = indexedDB.open("msd", 1);
  opening.onupgradeneeded = () => opening.result.createObjectStore(STORE, { keyPath: "key" });
  opening.onsuccess = () => resolve(opening.result);
  opening.onerror = opening.onblocked = reject;
}).catch(() => undefined);

/** What the database answers; undefined where there is none, or no room in it. */
async function ask<T>(mode: IDBTransactionMode, request: (store: IDBObjectStore) => IDBRequest<T>): Promise<T | undefined> {
  const open = await database;
  if (!open) return undefined;
  return new Promise<T>((resolve, reject) => {
    const transaction = open.transaction(STORE, mode);
    const asked = request(transaction.objectStore(STORE));
    transaction.oncomplete = () => resolve(asked.result);
    transaction.onabort = reject;
  }).catch(() => undefined);
}

/** Keep a picture for later visits; whether that is done. */
export const keep = async (picture: Kept): Promise<boolean> => (await ask("readwrite", (store) => store.put(picture))) !== undefined;
export const forget = (key: string): Promise<unknown> => ask("readwrite", (store) => store.delete(key));
export const forgetAll = (): Promise<unknown> => ask("readwrite", (store) => store.clear());

/** All that were kept, the newest first. */
export async function kept(): Promise<Kept[]> {
  const all = (await ask<Kept[]>("readonly", (store) => store.getAll())) ?? [];
  return all.sort((a, b) => b.at - a.at);
}
