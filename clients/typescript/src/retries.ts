import { connectionLost, errorOf, type MsdError } from "./errors.js";

const TOO_MANY = 429;
const WORTH_A_RETRY = new Set([TOO_MANY, 502, 503, 504]);
const FIRST_DELAY_MS = 500;
const MAX_DELAY_MS = 8000;
/** How long to wait, in all, for limits of the service to pass. */
const MAX_AT_LIMITS_MS = 10_000;

/** What a function of the generated client returns. */
export type Answer<T> = { data?: T; error?: unknown; request?: Request; response?: Response };

export interface Repeat {
  /** How often a request is sent again. */
  retries: number;
  signal?: AbortSignal | undefined;
  /** Send a request whose answer was lost again even if the signal was aborted, to learn what became of it. */
  settle?: boolean;
  /** Called before each wait, with its milliseconds. */
  onWait?: ((ms: number) => void) | undefined;
}

/**
 * Send a request that is safe to repeat, again and again while the connection breaks or the service is busy. A limit of
 * the service is waited for only if it passes soon.
 *
 * @throws MsdError, or the reason of the signal, which ends the waiting between two attempts.
 */
export async function withRetries<T>(
  send: () => Promise<Answer<T>>,
  { retries, signal, settle = false, onWait }: Repeat,
): Promise<T> {
  const patience = new Patience(retries);
  for (;;) {
    const answer = await send();
    if (answer.data !== undefined) return answer.data;
    const refusal = refusalOf(answer);
    const abortable = settle && refusal.error.status === 0 ? undefined : signal;
    abortable?.throwIfAborted();
    const delayMs = patience.delayMs(refusal);
    if (delayMs === undefined) throw signal?.aborted ? signal.reason : refusal.error;
    onWait?.(delayMs);
    await pause(delayMs, signal);
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

/** How often, and for how long, a request is sent again. */
export class Patience {
  #failures = 0;
  #atLimitsMs = 0;

  constructor(private readonly retries: number) {}

  /** All is well. */
  renew(): void {
    this.#failures = this.#atLimitsMs = 0;
  }

  /** How long to wait before the next attempt; undefined: it is not worth one. */
  delayMs({ error, mayPass, delayMs }: Refusal): number | undefined {
    // A limit that names no time may never pass.
    if (error.status === TOO_MANY) this.#atLimitsMs += delayMs ?? Infinity;
    if (!mayPass || this.#failures >= this.retries || this.#atLimitsMs > MAX_AT_LIMITS_MS) return undefined;
    const backoffMs = Math.min(FIRST_DELAY_MS * 2 ** this.#failures++, MAX_DELAY_MS);
    return delayMs ?? backoffMs;
  }
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
