const UNAUTHORIZED = 401;

/** Sends requests. What the service answers with 401 waits until somebody has signed in, and is sent again; so does all that comes meanwhile. */
export class Gate {
  /** Resolves when it opens; undefined while it is open. */
  #opening: Promise<void> | undefined;
  #open: (() => void) | undefined;
  /** How often it was opened. */
  #times = 0;

  readonly #send: (request: Request) => Promise<Response>;
  readonly #onShut: () => void;

  /** `onShut` asks whoever sits before the page to sign in. */
  constructor(send: (request: Request) => Promise<Response>, onShut: () => void) {
    this.#send = send;
    this.#onShut = onShut;
  }

  /** As the global one; a 401 is never its answer. */
  readonly fetch = async (input: RequestInfo | URL, init?: RequestInit): Promise<Response> => {
    const request = new Request(input, init);
    for (;;) {
      await this.#opened(request.signal);
      const before = this.#times;
      // The body of the first may be needed once more.
      const response = await this.#send(request.clone());
      if (response.status !== UNAUTHORIZED) return response;
      // Somebody may have signed in since it was sent.
      if (before === this.#times) this.#shut();
    }
  };

  /** Let through what waits. */
  open(): void {
    this.#times++;
    this.#open?.();
    this.#opening = this.#open = undefined;
  }

  #shut(): void {
    if (this.#opening) return;
    this.#opening = new Promise((resolve) => (this.#open = resolve));
    this.#onShut();
  }

  async #opened(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (!this.#opening) return;
    const aborted = new Promise<never>((_, reject) => signal.addEventListener("abort", () => reject(signal.reason), { once: true }));
    await Promise.race([this.#opening, aborted]);
  }
}
