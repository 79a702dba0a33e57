import type { Client } from "./generated/client/index.js";
import type { Asset, AssetsUploaded, UploadAssetsErrors } from "./generated/types.gen.js";
import { type Picture, read } from "./pictures.js";
import { type Repeat, withRetries } from "./retries.js";

/** Uploads each picture once, however often it is used. */
export class Uploads {
  /** Assets by the SHA-256 of the file, or by the object where a page over plain HTTP cannot compute it. */
  readonly #assets = new Map<unknown, Promise<Asset>>();

  constructor(private readonly http: Client) {}

  /** The text that names a picture in a request: what it is already, or its asset. */
  async name(picture: Picture, repeat: Repeat): Promise<string> {
    const content = await read(picture);
    return typeof content === "string" ? content : `asset:${(await this.#asset(picture, content, repeat)).id}`;
  }

  /** Forget what was uploaded: the service has it no longer. */
  clear(): void {
    this.#assets.clear();
  }

  /** Upload a picture, whether or not that was done before. */
  async send(content: Blob, repeat: Repeat): Promise<Asset> {
    const body = new FormData();
    body.append("picture", content, "picture");
    const { assets } = await withRetries(
      () =>
        this.http.post<{ 201: AssetsUploaded }, UploadAssetsErrors>({
          url: "/assets",
          body,
          bodySerializer: null,
          // With its boundary, which only `fetch` knows.
          headers: { "Content-Type": null },
          signal: repeat.signal,
        }),
      repeat,
    );
    return assets[0]!;
  }

  async #asset(picture: Picture, content: Blob, repeat: Repeat): Promise<Asset> {
    const key = (await sha256(content)) ?? picture;
    const known = this.#assets.get(key);
    // It may fail because somebody else, who wanted the picture too, gave up.
    const asset = known && (await known.catch(() => undefined));
    if (asset) return asset;
    const sending = this.send(content, repeat);
    this.#assets.set(key, sending);
    sending.catch(() => this.#assets.get(key) === sending && this.#assets.delete(key));
    return sending;
  }
}

async function sha256(content: Blob): Promise<string | undefined> {
  if (crypto.subtle === undefined) return undefined;
  return String(new Uint8Array(await crypto.subtle.digest("SHA-256", await content.arrayBuffer())));
}
