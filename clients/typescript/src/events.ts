import { connectionLost } from "./errors.js";
import type { Client } from "./generated/client/index.js";
import type { JobEvent, WatchJobErrors } from "./generated/types.gen.js";
import { Patience, refusalOf, pause, type Refusal } from "./retries.js";

/** The service sends something every 15 s; a connection that is silent for longer is dead. */
const SILENCE_MS = 45_000;
const LAST_EVENTS = new Set<string>(["succeeded", "failed", "canceled", "expired", "gone"]);

export interface WatchOptions {
  /** Whether to get `preview` events; the job must have been made with `previews`. */
  preview?: boolean | undefined;
  /** Id of the last event seen, to go on after it. */
  lastEventId?: string | undefined;
  /** Ends the watching; the job goes on. */
  signal?: AbortSignal | undefined;
}

/** Yield the events of a job until it ends, over as many connections as that takes. */
export async function* watchEvents(
  http: Client,
  id: string,
  { preview, lastEventId, signal }: WatchOptions,
  retries: number,
): AsyncGenerator<JobEvent, void, void> {
  const patience = new Patience(retries);
  for (;;) {
    const answer = await http.get<{ 200: ReadableStream<Uint8Array> }, WatchJobErrors>({
      url: "/jobs/{job_id}/events",
      path: { job_id: id },
      // A header of this name would cost browsers a request of its own.
      query: { preview, last_event_id: lastEventId },
      parseAs: "stream",
      cache: "no-store",
      signal,
    });
    let refusal: Refusal = { error: connectionLost(undefined), mayPass: true };
    if (answer.data === undefined) refusal = refusalOf(answer);
    else if (answer.response?.status === 204) return;
    else {
      try {
        for await (const event of eventsOf(answer.data)) {
          patience.renew();
          if ("id" in event) lastEventId = event.id;
          yield event;
          if (LAST_EVENTS.has(event.event)) return;
        }
      } catch (error) {
        refusal.error = connectionLost(error);
      }
    }
    signal?.throwIfAborted();
    const delayMs = patience.delayMs(refusal);
    if (delayMs === undefined) throw refusal.error;
    await pause(delayMs, signal);
    signal?.throwIfAborted();
  }
}

/** Parse server-sent events; ends when the connection does, or is dead. */
async function* eventsOf(body: ReadableStream<Uint8Array>): AsyncGenerator<JobEvent, void, void> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let text = "";
  let fields: Record<string, string> = {};
  try {
    for (;;) {
      const silence = setTimeout(() => void reader.cancel(), SILENCE_MS);
      const { done, value } = await reader.read().finally(() => clearTimeout(silence));
      if (done) return;
      const lines = (text + decoder.decode(value, { stream: true })).split(/\r?\n/);
      text = lines.pop() ?? "";
      for (const line of lines) {
        const [, name, content] = /^(event|data|id):? ?(.*)$/.exec(line) ?? [];
        if (name !== undefined) fields[name] = name in fields ? `${fields[name]}\n${content}` : content!;
        if (line !== "") continue;
        if (fields.data !== undefined) yield { ...fields, data: JSON.parse(fields.data) } as JobEvent;
        fields = {};
      }
    }
  } finally {
    // The reader may be done already, or broken.
    void reader.cancel().catch(() => undefined);
  }
}
