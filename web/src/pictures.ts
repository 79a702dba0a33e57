import { signal } from "@preact/signals";
import { MsdError } from "msd-client";

import leafyGreen from "../../assets/demo/leafy-green.png";
import tomato from "../../assets/demo/tomato.png";
import { addressOf } from "./address.ts";
import { newKey, renamePicture } from "./document.ts";
import { mayBeSentAgain, whyNotSent } from "./messages.ts";
import { client } from "./service.ts";
import { isForbidden, reach } from "./session.ts";

/**
 * A picture of a subject. Its key is `demo:<name>`, `asset:<id>`, `sha256:<hash>` or `cast:<name>/<index>/<hash>` if the service has it, or its
 * own until then.
 */
export interface Picture {
  url: string;
  /** What stands for it in a request, once the service has it. */
  asset?: string | undefined;
  blob?: Blob;
  /** `unsent`: it may be taken another time; `unseen`: the service has it, but not as an asset that could be shown. */
  state: "sending" | "sent" | "missing" | "refused" | "unsent" | "unseen";
  /** Why it was refused, or could not be sent. */
  error?: MsdError;
  /** The browser cannot show it. */
  broken?: boolean;
}

const ID_LENGTH = 32;
const DEMO: Record<string, string> = { "demo:tomato": tomato, "demo:leafy-green": leafyGreen };
/** Pictures by key; those of the last visit are the service's. */
const pictures = signal<Record<string, Picture>>({});

export function pictureOf(key: string): Picture {
  const known = pictures.value[key];
  if (known) return known;
  if (DEMO[key]) return { url: DEMO[key], state: "sent" };
  const [, name, index, hash] = /^cast:(.+)\/(\d+)\/(\w+)$/.exec(key) ?? [];
  if (name) return { url: addressOf(`/cast/${encodeURIComponent(name)}/pictures/${index}`), asset: `sha256:${hash}`, state: "sent" };
  // The id of most assets is the beginning of their hash.
  const id = key.startsWith("sha256:") ? key.slice(7, 7 + ID_LENGTH) : key.replace("asset:", "");
  return { url: addressOf(`/assets/${encodeURIComponent(id)}/picture`), asset: key, state: "sent" };
}

const update = (key: string, change: Partial<Picture>): void => {
  pictures.value = { ...pictures.value, [key]: { ...pictureOf(key), ...change } };
};

/** It could not be shown. */
export const markMissing = async (key: string): Promise<void> => {
  const { url, blob, state } = pictureOf(key);
  if (blob) update(key, { broken: true });
  else if (state === "sent" && !(await isForbidden(url))) update(key, { state: key.startsWith("sha256:") ? "unseen" : "missing" });
};

export const isBlank = ({ state, broken }: Picture): boolean => state === "missing" || state === "unseen" || broken === true;

/** The service has it no longer. */
export const forgetPicture = (key: string): void => update(key, { state: "missing" });

/** Take a picture and send it. Its key changes, wherever it stands, once the service has it. */
export function take(blob: Blob): string {
  const key = newKey();
  pictures.value = { ...pictures.value, [key]: { url: URL.createObjectURL(blob), blob, state: "sending" } };
  void named(key).catch(() => undefined);
  return key;
}

/** Send a picture again that could not be sent. */
export function sendAgain(key: string): void {
  update(key, { state: "sending" });
  void named(key).catch(() => undefined);
}

const uploads = new Map<string, Promise<string>>();

/** The text that stands for a picture in a request; it is uploaded for that if it must be. */
export function named(key: string): Promise<string> {
  const { asset, state, error } = pictureOf(key);
  if (state === "refused") return Promise.reject(error!);
  if (asset) return Promise.resolve(asset);
  let upload = uploads.get(key);
  if (!upload) {
    upload = send(key).finally(() => uploads.delete(key));
    uploads.set(key, upload);
  }
  return upload;
}

async function send(key: string): Promise<string> {
  const blob = await bytesOf(key);
  try {
    const asset = `asset:${(await client.upload(blob)).id}`;
    update(key, { asset, blob, state: "sent", error: undefined });
    if (!isLasting(key)) {
      update(asset, pictureOf(key));
      renamePicture(key, asset);
    }
    return asset;
  } catch (error) {
    // What may be taken another time is tried again with the next request.
    if (error instanceof MsdError) update(key, { state: mayBeSentAgain(error) ? "unsent" : "refused", error });
    throw error;
  }
}

const bytesOf = async (key: string): Promise<Blob> => {
  const { blob, url } = pictureOf(key);
  return blob ?? (await reach(url)).blob();
};

/** The id of its asset; it is made one for that if it must be. */
export async function assetIdOf(key: string): Promise<string> {
  const asset = await named(key);
  if (asset.startsWith("asset:")) return asset.slice("asset:".length);
  return (await client.upload(await bytesOf(key))).id;
}

/** What is wrong with a picture that the service has not, in a sentence or two; empty if nothing is. */
export const reasonOf = ({ state, error }: Picture): string => (error && (state === "refused" || state === "unsent") ? whyNotSent(error) : "");
/** The same as the service says it of a request. */
export const detailOf = ({ error }: Picture): string => error?.errors[0]?.detail ?? error?.detail ?? "";

/** Whether later visits know it too by this key. */
export const isLasting = (key: string): boolean => key.includes(":");

/** The key that a picture has on later visits too, once it was sent. */
export const lastingKey = (key: string): string => (isLasting(key) ? key : (pictureOf(key).asset ?? key));

/** Upload again what is here, and mark as missing what is not: the service has lost an asset. Whether anything is here. */
export function lost(key: string): boolean {
  const { blob } = pictureOf(key);
  update(key, blob ? { asset: undefined } : { state: "missing" });
  return blob !== undefined;
}

const isJson = ({ type, name }: File): boolean => type === "application/json" || name.endsWith(".json");

/** Pictures in what was dropped or pasted: all files but JSON, for the service says what is wrong with others. */
export const picturesIn = (data: DataTransfer | null): File[] => [...(data?.files ?? [])].filter((file) => !isJson(file));
export const jsonIn = (data: DataTransfer | null): File | undefined => [...(data?.files ?? [])].find(isJson);
