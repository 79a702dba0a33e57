import { api } from "msd-client";

import { assetIdOf } from "./pictures.ts";
import { client } from "./service.ts";

const ACCEPTED = 202;
const AGAIN_S = 1;
/** Addresses of cut-outs, by the ids of the assets. */
const made = new Map<string, string>();

/** The address of a picture as the model sees it when it is cut out; a worker makes it. Errors say why there is none. */
export async function cutoutOf(picture: string, signal: AbortSignal): Promise<string> {
  const id = await assetIdOf(picture);
  let url = made.get(id);
  if (url === undefined) made.set(id, (url = URL.createObjectURL(await wait(id, signal))));
  return url;
}

async function wait(id: string, signal: AbortSignal): Promise<Blob> {
  for (;;) {
    const { data, error, response } = await api.getCutout({ client: client.http, path: { asset_id: id }, parseAs: "blob", signal });
    if (!response?.ok) throw new Error((error as { detail?: string } | undefined)?.detail ?? "The service cannot be reached.");
    if (response.status !== ACCEPTED) return data as Blob;
    const pause = Number(response.headers.get("Retry-After")) || AGAIN_S;
    await new Promise((resolve) => setTimeout(resolve, 1000 * pause));
    signal.throwIfAborted();
  }
}
