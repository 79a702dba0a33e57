import { connectionLost, errorOf, type MsdError } from "./errors.js";

const WORTH_A_RETRY = new Set([429, 502, 503, 504]);
const FIRST_DELAY_MS = 500;
const MAX_DELAY_MS = 8000;

/** What a function of the generated client returns. */
export type Answer<T> = { data?: T; error?: unknown; request?: Request; response?: Response };

export interface Repeat {
  /** How often a request is sent again. */
  retries: number;
  signal?: AbortSignal | undefined;
  /** Send a request whose answer was lost again even if the signal was aborted, to learn what became of it. */
  settle?: boolean;
}

/**
 * Send a request that is safe to repeat, again and again while the connection breaks or the service is busy.
 *
 * @throws MsdError, or the reason of the signal, which ends the waiting between two attempts.
 */
export async function withRetries<T>(
  send: () => Promise<Answer<T>>,
  { retries, signal, settle = false }: Repeat,
): Promise<T> {
  for (let attempt = 0; ; attempt++) {
    const answer = await send();
    if (answer.data !== undefined) return answer.data;
    const refusal = refusalOf(answer);
    const abortable = settle && refusal.error.status === 0 ? undefined : signal;
    abortable?.throwIfAborted();
    if (!refusal.mayPass || attempt >= retries) throw signal?.aborted ? signal.reason : refusal.error;
    await pause(refusal.delayMs ?? backoffMs(attempt), signal);
    abortable?.throwIfAborted();
  }
}

export interface Refusal {
  error: MsdError;
  /** Whether the same request may succeed later. */
  mayPass: boolean;
  /** When, if the service said so. */
  delayMs?: number | undefined;
}

/** Why an answer holds no data. */
export function refusalOf({ error, request, response }: Answer<unknown>): Refusal {
  // The request could not even be made, for instance to an address that is none.
  if (request === undefined) throw error;
  if (response === undefined || response.ok) return { error: connectionLost(error), mayPass: true };
  return {
    error: errorOf(response, error),
    mayPass: WORTH_A_RETRY.has(response.status),
    delayMs: retryAfterMs(response.headers.get("Retry-After")),
  };
}

/** How long to wait after so many failures in a row. */
export function backoffMs(failures: number): number {
  return Math.min(FIRST_DELAY_MS * 2 ** failures, MAX_DELAY_MS);
}

/** `Retry-After` is a number of seconds or a date. */
function retryAfterMs(value: string | null): number | undefined {
  if (!value) return undefined;
  const ms = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now();
  return Number.isNaN(ms) ? undefined : Math.max(ms, 0);
}

/** Wait; an aborted signal ends the waiting at once. */
export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    if (signal?.aborted) done();
    else signal?.addEventListener("abort", done);
  });
}
