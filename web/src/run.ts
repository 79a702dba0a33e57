import { effect, signal } from "@preact/signals";
import { api, type FinishedPicture, type JobResource, MsdError, type ProblemItem } from "msd-client";

import { addressOf } from "./address.ts";
import { doc, type Document, dragged, spoken, withKeys } from "./document.ts";
import { drawn } from "./gestures.ts";
import { keep, type Kept } from "./kept.ts";
import { painted } from "./painting.ts";
import { deniedWords } from "./messages.ts";
import { lastingKey, lost } from "./pictures.ts";
import { furthest, type Progress } from "./progress.ts";
import { requestOf } from "./request.ts";
import { client, readModel } from "./service.ts";
import { asked, reach } from "./session.ts";
import { note as say, results, shownKey, view } from "./view.ts";
import { forgetJob, note, noted } from "./watched.ts";

/** A job on its way. */
export interface Run extends Progress {
  /** Id of the job; null until it is accepted. */
  job: string | null;
  /** Jobs ahead of it. */
  position?: number | null;
  /** In seconds. */
  eta?: number | null;
  /** A data URI. */
  preview?: string;
}

export const run = signal<Run | null>(null);
export const problems = signal<ProblemItem[]>([]);
export const warnings = signal<ProblemItem[]>([]);
/** What failed, beside what has a field. */
export const failure = signal("");

const POLL_MS = 1500;
const AGAIN_MS = 2000;
let stop = new AbortController();

const update = (change: Partial<Run>): void => {
  if (run.value) run.value = { ...run.value, ...change };
};

/** Make a picture of the document. */
export const generate = (): Promise<void> => make(async () => doc.value);

/** Make a picture again in which only one subject may change. */
export const redraw = (result: Kept, subject: number): Promise<void> => make(() => redrawn(result, subject));

async function redrawn({ blob, url, document }: Kept, subject: number): Promise<Document> {
  const { id } = await client.upload(blob ?? (await (await reach(addressOf(url))).blob()), stop.signal);
  const { seed: _, num_images: __, ...options } = document.options;
  return { ...document, options: { ...options, start: { image: `asset:${id}`, strength: 1, redraw: [subject] } } };
}

async function make(prepare: () => Promise<Document>): Promise<void> {
  if (run.value) return;
  stop = new AbortController();
  problems.value = warnings.value = [];
  failure.value = "";
  run.value = { job: null, phase: "sending", fraction: 0 };
  view.value = "layout";
  try {
    const document = await prepare();
    const job = await submit(document).catch((error: unknown) => {
      if (!forgetAssets(error, document)) throw error;
      return submit(document);
    });
    if (stop.signal.aborted) await client.cancel(job.id);
    await follow(job.id, withKeys(document, lastingKey));
  } catch (error) {
    report(error);
  } finally {
    run.value = null;
  }
}

async function submit(document: Document): Promise<JobResource> {
  const request = await requestOf(document);
  const onWait = (): void => update({ phase: "waiting_to_send_again" });
  return client.submit({ ...request, previews: true }, { signal: stop.signal, onWait });
}

/** Forget the assets that the service has no longer; whether there is one that can be uploaded again. */
function forgetAssets(error: unknown, { subjects }: Document): boolean {
  if (!(error instanceof MsdError)) return false;
  const keys = error.errors.flatMap(({ pointer, code }) => {
    const [, index, field, picture] = /^\/subjects\/(\d+)\/(image|mask)s?(?:\/(\d+))?/.exec(pointer) ?? [];
    const subject = subjects[Number(index)];
    const key = field === "mask" ? subject?.mask : subject?.pictures[Number(picture ?? 0)];
    return code === "asset_not_found" && key ? [key] : [];
  });
  return keys.map(lost).some(Boolean);
}

/** Go on watching the job of the last visit. */
export async function resume(): Promise<void> {
  const last = await noted();
  if (!last || run.value) return;
  run.value = { job: last.job, phase: "queued", fraction: 0 };
  try {
    await follow(last.job, last.document);
  } catch (error) {
    report(error);
  } finally {
    run.value = null;
  }
}

export async function cancel(): Promise<void> {
  const job = run.value?.job;
  update({ phase: "canceling" });
  if (job) await client.cancel(job).catch(() => undefined);
  else stop.abort();
}

/** Watch a job to its end, as long as the page is open: a service that is away is waited for. */
async function follow(job: string, document: Document): Promise<void> {
  note({ job, document });
  update({ job, phase: "queued" });
  const polling = setInterval(() => void poll(job), POLL_MS);
  try {
    for (;;) {
      try {
        await watch(job, document);
        return;
      } catch (error) {
        if (!(error instanceof MsdError && error.code === "connection_lost")) throw error;
        void readModel();
        await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
      }
    }
  } finally {
    clearInterval(polling);
    forgetJob(job);
  }
}

async function watch(job: string, document: Document): Promise<void> {
  const { pictures, warnings: given } = await client.result(job, {
    onProgress: ({ phase, step, steps, fraction }) => run.value && update({ ...furthest(run.value, { phase: phase ?? "running", step, steps, fraction }), position: null }),
    onPreview: ({ url }) => update({ preview: url }),
  });
  warnings.value = given;
  const made = pictures.map((picture) => toKept(job, picture, document));
  results.value = [...made, ...results.value.filter(({ key }) => !made.some((one) => one.key === key))];
  shownKey.value = made[0]?.key ?? null;
  // Whoever is drawing or painting is not disturbed.
  if (!dragged.value && !drawn.value && !painted.value) view.value = made.length > 1 ? "all" : "picture";
  spoken.value = made.length > 1 ? `${made.length} pictures are there` : `The picture is there, of the seed ${made[0]?.seed}`;
  for (const [index, picture] of pictures.entries()) void keepWhole(made[index]!, picture);
}

function toKept(job: string, { index, url, seed, score, width, height }: FinishedPicture, document: Document): Kept {
  return { key: `${job}/${index}`, url, seed, score, width, height, document, at: Date.now() - index };
}

/** Keep it without its bytes first: until they are here it is shown from the service. */
async function keepWhole(picture: Kept, finished: FinishedPicture): Promise<void> {
  let done = await keep(picture);
  const blob = await finished.blob().catch(() => undefined);
  // It may have been removed meanwhile.
  if (blob && results.value.some(({ key }) => key === picture.key)) {
    const whole = { ...picture, blob };
    results.value = results.value.map((one) => (one.key === whole.key ? whole : one));
    done = await keep(whole);
  }
  if (!done) say("This browser keeps no more pictures: download this one, or it is gone when you close the page.");
}

/** Where it stands in the queue, and how long it may take. */
async function poll(id: string): Promise<void> {
  if (asked.value !== "no") return;
  const { data, response } = await api.getJob({ client: client.http, path: { job_id: id } }).catch(() => ({ data: undefined, response: undefined }));
  if (data) update({ position: data.position, eta: data.eta_seconds });
  if (!response) void readModel();
}

function report(error: unknown): void {
  if (!(error instanceof MsdError)) {
    if (!stop.signal.aborted) failure.value = String(error);
    return;
  }
  if (error.code === "canceled") return;
  if (error.code === "missing_scope") {
    failure.value = deniedWords(error.detail);
    return;
  }
  problems.value = error.errors;
  if (error.errors.length === 0) failure.value = error.detail;
}

/** Problems at a field, or below it. */
export const problemsAt = (list: ProblemItem[], pointer: string): ProblemItem[] =>
  list.filter((problem) => problem.pointer === pointer || problem.pointer.startsWith(`${pointer}/`));

/** Whatever is edited, what was said of the request before may be true no longer. */
export function forgetProblemsOnEdits(): void {
  let last = doc.peek();
  effect(() => {
    const now = doc.value;
    if (now.subjects.length !== last.subjects.length) problems.value = [];
    else problems.value = problems.peek().filter(({ pointer }) => valueAt(now, pointer) === valueAt(last, pointer));
    last = now;
  });
}

/** The part of a document that a pointer into its request leads to. */
function valueAt({ prompt, subjects, options }: Document, pointer: string): unknown {
  const [, field, index, name] = pointer.split("/");
  if (field === "prompt") return prompt;
  if (field !== "subjects") return options[field as keyof typeof options];
  const subject = subjects[Number(index)];
  if (name === "image" || name === "images") return subject?.pictures;
  return name === undefined || !subject ? subject : subject[name as keyof typeof subject];
}
