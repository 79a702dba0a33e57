import { createServer, type IncomingMessage, request, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** What to do with an exchange: `undefined` lets it pass. */
export type Fault = (sent: IncomingMessage, answer: ServerResponse) => "drop answer" | "drop after an event" | "done" | undefined;

/** A proxy before the service that breaks what `fault` says. */
export class Proxy {
  readonly paths: string[] = [];
  fault: Fault = () => undefined;
  readonly #server = createServer((sent, answer) => this.#pass(sent, answer));

  constructor(private readonly target: string) {}

  async start(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  stop(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  #pass(sent: IncomingMessage, answer: ServerResponse): void {
    this.paths.push(`${sent.method} ${sent.url}`);
    const fault = this.fault(sent, answer);
    if (fault === "done") return;
    const headers = { ...sent.headers, host: new URL(this.target).host };
    const forwarded = request(this.target + sent.url, { method: sent.method, headers }, (response) => {
      if (fault === "drop answer") {
        response.resume().on("end", () => answer.destroy());
        return;
      }
      answer.writeHead(response.statusCode ?? 500, response.headers);
      response.on("data", (chunk: Buffer) => {
        answer.write(chunk);
        if (fault === "drop after an event" && chunk.includes("\nid: ")) setTimeout(() => answer.destroy(), 20);
      });
      response.on("end", () => answer.end());
    });
    forwarded.on("error", () => answer.destroy());
    answer.on("close", () => forwarded.destroy());
    sent.pipe(forwarded);
  }
}
