import { errorOfJob, MsdError } from "./errors.js";
import { watchEvents, type WatchOptions } from "./events.js";
import { type Client, createClient } from "./generated/client/index.js";
import { cancelJob, generate, getImage, getJob } from "./generated/sdk.gen.js";
import type {
  Asset,
  GenerateData,
  GenerationWarning,
  ImageResource,
  JobEvent,
  JobResource,
  PreviewEvent,
  ProgressEvent,
} from "./generated/types.gen.js";
import { type GenerateInput, named, type Picture, read } from "./pictures.js";
import { type Repeat, withRetries } from "./retries.js";
import { Uploads } from "./uploads.js";

const RETRIES = 5;
const CANCEL_PATIENCE_MS = 10_000;

export interface ClientOptions {
  /** Address of the service, such as `http://127.0.0.1:8000`. */
  baseUrl: string;
  /** Sent as `Authorization: Bearer`; by default, in Node, that of the environment, `MSD_API_KEY`. Empty: none. */
  apiKey?: string | undefined;
  /** How often a request is sent again while the service is busy or cannot be reached; 5 by default. Limits (429) are waited for 10 s in all. */
  retries?: number | undefined;
  /** In place of the global `fetch`. */
  fetch?: typeof fetch | undefined;
}

export interface SubmitOptions {
  /** Requests with the same key make one job; by default each call has its own. */
  idempotencyKey?: string | undefined;
  /** Cancel the job if it has not ended after this time, such as `5m`. */
  cancelAfter?: string | undefined;
  /** Let the job expire if it has not started after this time, such as `30s`. */
  startDeadline?: string | undefined;
  /** Called before the request is sent again, with the milliseconds until then. */
  onWait?: ((ms: number) => void) | undefined;
  signal?: AbortSignal | undefined;
}

export interface ResultOptions {
  /** Called with every step. */
  onProgress?: ((progress: ProgressEvent) => void) | undefined;
  /** Called with small previews of the first picture. */
  onPreview?: ((preview: Preview) => void) | undefined;
  signal?: AbortSignal | undefined;
}

export interface GenerateOptions extends SubmitOptions, ResultOptions {
  /** Called once, when the job is accepted. */
  onAccepted?: ((job: JobResource) => void) | undefined;
}

/** A preview; `url` is a data URI. */
export type Preview = PreviewEvent & { url: string };

/** A finished picture. */
export interface FinishedPicture extends ImageResource {
  /** The picture's file, with its recipe. */
  blob(): Promise<Blob>;
  bytes(): Promise<Uint8Array<ArrayBuffer>>;
}

export interface Result {
  pictures: FinishedPicture[];
  warnings: GenerationWarning[];
  job: JobResource;
}

/** A client of one service. */
export class MsdClient {
  /** For the functions of `api`, such as `api.listJobs({ client: client.http })`. */
  readonly http: Client;
  readonly #retries: number;
  readonly #uploads: Uploads;

  constructor({ baseUrl, apiKey = keyOfEnvironment(), retries = RETRIES, fetch }: ClientOptions) {
    const key = apiKey.trim();
    const headers = key === "" ? {} : { Authorization: `Bearer ${key}` };
    this.http = createClient({ baseUrl: baseUrl.replace(/\/+$/, ""), headers, fetch });
    this.#retries = retries;
    this.#uploads = new Uploads(this.http);
  }

  /**
   * Make pictures; resolves when they are there.
   *
   * Aborting the signal cancels the job.
   *
   * @throws MsdError
   */
  async generate(input: GenerateInput, options: GenerateOptions = {}): Promise<Result> {
    const { onAccepted, onPreview, signal } = options;
    const previews = input.previews ?? (onPreview ? true : undefined);
    const job = await this.submit({ ...input, previews }, options);
    try {
      signal?.throwIfAborted();
      onAccepted?.(job);
      return await this.result(job.id, options);
    } catch (error) {
      if (signal?.aborted) await this.#stop(job.id);
      throw error;
    }
  }

  /** Upload the pictures of a request and submit it; resolves when the job is accepted. */
  async submit(input: GenerateInput, options: SubmitOptions = {}): Promise<JobResource> {
    const { idempotencyKey = randomKey(), cancelAfter, startDeadline } = options;
    const headers = {
      "Idempotency-Key": idempotencyKey,
      "Cancel-After": cancelAfter,
      "X-Start-Deadline": startDeadline,
    };
    try {
      return await this.#submit(input, headers, options);
    } catch (error) {
      if (!(error instanceof MsdError && error.errors.some(({ code }) => code === "asset_not_found"))) throw error;
      // What was uploaded some time ago has expired, or somebody has deleted it.
      this.#uploads.clear();
      return this.#submit(input, headers, options);
    }
  }

  async #submit(input: GenerateInput, headers: GenerateData["headers"], { signal, onWait }: SubmitOptions): Promise<JobResource> {
    signal?.throwIfAborted();
    const repeat = { ...this.#repeat(signal), onWait };
    const body = await named(input, (picture) => this.#uploads.name(picture, repeat));
    signal?.throwIfAborted();
    // Not aborted midway: whoever cancels must know the job.
    return withRetries(() => generate({ client: this.http, body, headers }), { ...repeat, settle: true });
  }

  /** Upload a picture, to name it as `asset:<id>`; `generate` and `submit` do this by themselves. */
  async upload(picture: Picture, signal?: AbortSignal): Promise<Asset> {
    const content = await read(picture);
    const file = typeof content === "string" ? await (await fetch(content)).blob() : content;
    return this.#uploads.send(file, this.#repeat(signal));
  }

  /** Follow a job to its end. Aborting the signal ends the watching only. */
  async result(id: string, { onProgress, onPreview, signal }: ResultOptions = {}): Promise<Result> {
    for await (const event of this.watch(id, { preview: onPreview !== undefined, signal })) {
      switch (event.event) {
        case "progress":
          onProgress?.(event.data);
          break;
        case "preview":
          onPreview?.({ ...event.data, url: `data:${event.data.content_type};base64,${event.data.data}` });
          break;
        case "succeeded":
          return this.#result(event.data);
        case "failed":
        case "canceled":
        case "expired":
          throw errorOfJob(event.data);
        case "gone":
          throw new MsdError({ status: 410, ...event.data });
      }
    }
    throw new Error("the events of a job ended without its end");
  }

  /** Yield the events of a job until it ends; a lost connection is taken up again where it broke. */
  watch(id: string, options: WatchOptions = {}): AsyncGenerator<JobEvent, void, void> {
    return watchEvents(this.http, id, options, this.#retries);
  }

  /** Read a job. */
  job(id: string, signal?: AbortSignal): Promise<JobResource> {
    return withRetries(() => getJob({ client: this.http, path: { job_id: id }, signal }), this.#repeat(signal));
  }

  /** Cancel a job. */
  cancel(id: string, signal?: AbortSignal): Promise<JobResource> {
    return withRetries(() => cancelJob({ client: this.http, path: { job_id: id }, signal }), this.#repeat(signal));
  }

  /** Cancel a job that nobody waits for; it may have ended meanwhile. */
  async #stop(id: string): Promise<void> {
    await this.cancel(id, AbortSignal.timeout(CANCEL_PATIENCE_MS)).catch(() => undefined);
  }

  #result(job: JobResource): Result {
    const pictures = job.images.map((image): FinishedPicture => {
      const path = { job_id: job.id, index: image.index };
      const blob = () => withRetries(() => getImage({ client: this.http, path, parseAs: "blob" }), this.#repeat());
      const url = this.http.buildUrl({ url: "/jobs/{job_id}/images/{index}", path });
      return { ...image, url, blob, bytes: async () => new Uint8Array(await (await blob()).arrayBuffer()) };
    });
    return { pictures, warnings: job.warnings, job };
  }

  #repeat(signal?: AbortSignal): Repeat {
    return { retries: this.#retries, signal };
  }
}

/** `crypto.randomUUID` is missing in pages that came over plain HTTP. */
function randomKey(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The key for whoever gives none; empty in browsers, which have no environment. */
function keyOfEnvironment(): string {
  return (globalThis as { process?: { env?: Record<string, string | undefined> } }).process?.env?.["MSD_API_KEY"] ?? "";
}
