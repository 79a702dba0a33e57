import type { Document } from "./document.ts";
import { isFields, soundDocument } from "./sound.ts";
import { recall, remember } from "./storage.ts";

/** A job on its way, with what it is made of. */
interface Watched {
  job: string;
  document: Document;
}

/** Of all tabs, and of those that are closed. */
const ALL = "msd.jobs";
/** Of this tab; it outlives a reload. */
const OWN = "msd.job";
/** How long other tabs may take to say what they watch, in milliseconds. */
const ANSWER_MS = 300;
const ASK = "?";

/** Jobs that this tab watches, and that others said they do. */
const mine = new Set<string>();
const theirs = new Set<string>();
const tabs = channel();

/** To the other tabs; undefined where the browser allows none, as it may without storage. */
function channel(): BroadcastChannel | undefined {
  try {
    const made = new BroadcastChannel(ALL);
    made.onmessage = ({ data }: MessageEvent<string>) => {
      if (data !== ASK) theirs.add(data);
      else for (const job of mine) made.postMessage(job);
    };
    return made;
  } catch {
    return undefined;
  }
}

function all(): Watched[] {
  const kept = recall(ALL);
  if (!Array.isArray(kept)) return [];
  return kept.filter(isFields).flatMap(({ job, document: made }) => {
    const document = soundDocument(made);
    return typeof job === "string" && document ? [{ job, document }] : [];
  });
}
const others = (job: string): Watched[] => all().filter((one) => one.job !== job);

export function note(watched: Watched): void {
  mine.add(watched.job);
  remember(ALL, [...others(watched.job), watched]);
  remember(OWN, watched.job, "sessionStorage");
}

export function forgetJob(job: string): void {
  mine.delete(job);
  remember(ALL, others(job));
}

/** The job of this tab, or of one that is closed. */
export async function noted(): Promise<Watched | undefined> {
  const job = recall(OWN, "sessionStorage");
  const own = all().find((one) => one.job === job);
  if (own || all().length === 0) return own;
  tabs?.postMessage(ASK);
  await new Promise((resolve) => setTimeout(resolve, ANSWER_MS));
  return all().findLast((one) => !theirs.has(one.job));
}
