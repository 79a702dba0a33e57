/** The client against a live service at MSD_URL, with pictures cat.png and teapot.png in MSD_PICTURES. */
import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, beforeEach, test } from "node:test";

import { api, type GenerateInput, type JobEvent, MsdClient, MsdError, type Preview, type ProgressEvent } from "../src/index.js";
import { Patience } from "../src/retries.js";
import { Proxy } from "./proxy.js";

const URL = process.env.MSD_URL!;
const PICTURES = process.env.MSD_PICTURES!;
const CAT = join(PICTURES, "cat.png");
const QUICK = { width: 64, height: 64, num_inference_steps: 2 };
const LONG = { width: 512, height: 512, num_inference_steps: 150 };

const direct = new MsdClient({ baseUrl: URL });
const proxy = new Proxy(URL);
let client: MsdClient;

before(async () => {
  client = new MsdClient({ baseUrl: `${await proxy.start()}/`, apiKey: "not needed" });
});
beforeEach(() => {
  proxy.fault = () => undefined;
  proxy.paths.length = 0;
});
after(() => proxy.stop());

function request(changes: Partial<GenerateInput> = {}): GenerateInput {
  return {
    prompt: "a cat and a teapot on the beach",
    subjects: [{ phrase: "cat", image: CAT, box: [0.05, 0.3, 0.45, 0.8] }],
    ...QUICK,
    ...changes,
  };
}

/** How many pictures were uploaded through the proxy. */
function uploads(): number {
  return proxy.paths.filter((path) => path === "POST /assets").length;
}

function failure(promise: Promise<unknown>): Promise<MsdError> {
  return promise.then(
    () => assert.fail("it succeeded"),
    (error: unknown) => {
      assert.ok(error instanceof MsdError, String(error));
      return error;
    },
  );
}

async function allJobs(): Promise<string[]> {
  const { data } = await api.listJobs({ client: direct.http, query: { limit: 100 }, throwOnError: true });
  return data.jobs.map((job) => job.id);
}

async function ended(id: string): Promise<string> {
  for await (const event of direct.watch(id)) if (event.event !== "gone" && "id" in event.data) return event.data.status;
  return "gone";
}

test("two subjects in boxes, their pictures in every form, with progress and previews", async () => {
  const bytes = await readFile(CAT);
  const uri = `data:image/png;base64,${bytes.toString("base64")}`;
  const steps: ProgressEvent[] = [];
  const previews: Preview[] = [];
  const accepted: string[] = [];
  const made = await client.generate(
    request({
      subjects: [
        { phrase: "cat", images: [bytes, new Blob([bytes]), new File([bytes], "cat.png", { type: "image/png" }), uri, bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length)], box: [0.05, 0.3, 0.45, 0.8] },
        { phrase: "teapot", image: join(PICTURES, "teapot.png"), box: { xywh: [0.5, 0.3, 0.4, 0.5] } },
      ],
      num_inference_steps: 10,
      num_images: 2,
      seed: 7,
    }),
    {
      onAccepted: (job) => accepted.push(job.id),
      onProgress: (progress) => steps.push(progress),
      onPreview: (preview) => previews.push(preview),
    },
  );
  assert.equal(uploads(), 2);
  assert.deepEqual(accepted, [made.job.id]);
  assert.equal(made.job.status, "succeeded");
  assert.deepEqual(made.pictures.map((picture) => picture.seed), [7, 8]);
  assert.deepEqual(made.warnings, made.job.warnings);
  assert.ok(steps.some((step) => step.step !== null && step.fraction > 0));
  assert.match(previews[0]?.url ?? "", /^data:image\/webp;base64,/);
  const picture = made.pictures[0]!;
  assert.equal(picture.score, null);
  assert.equal((await picture.blob()).type, "image/png");
  assert.deepEqual([...(await picture.bytes()).subarray(1, 4)], [...Buffer.from("PNG")]);
  assert.deepEqual(Buffer.from(await (await fetch(picture.url)).arrayBuffer()), Buffer.from(await picture.bytes()));
});

test("a watch whose connection breaks again and again misses and doubles nothing", async () => {
  const { id } = await client.submit(request({ width: 128, height: 64, num_inference_steps: 100 }));
  let breaks = 6;
  proxy.fault = () => (breaks-- > 0 ? "drop after an event" : undefined);
  const events: JobEvent[] = [];
  for await (const event of client.watch(id)) events.push(event);
  const versions = events.map((event) => Number("id" in event ? event.id : NaN));
  assert.deepEqual(versions, [...new Set(versions)].sort((a, b) => a - b));
  const last = events.at(-1);
  assert.ok(last?.event === "succeeded" && last.data.images[0]);
  assert.deepEqual(
    events.filter((event) => event.event === "status").map((event) => event.data.event),
    ["queued", "running"],
  );
  const watches = proxy.paths.filter((path) => path.includes("/events"));
  // The job may end before the last break.
  assert.ok(watches.length > 3);
  for (const path of watches.slice(1)) assert.match(path, /last_event_id=\d+/);
});

test("a watch goes on after the last event of an earlier one, and ends when its signal does", async () => {
  const { job } = await client.generate(request());
  const events = async (lastEventId?: string) => {
    const seen: JobEvent[] = [];
    for await (const event of client.watch(job.id, { lastEventId })) seen.push(event);
    return seen;
  };
  const all = await events();
  assert.equal((await events("1")).at(-1)?.event, "succeeded");
  assert.ok((await events("1")).length < all.length);
  assert.deepEqual(await events(String(job.version)), []);

  const running = await client.submit(request(LONG));
  const stop = new AbortController();
  await assert.rejects(async () => {
    for await (const _ of client.watch(running.id, { signal: stop.signal })) stop.abort();
  }, { name: "AbortError" });
  assert.ok(["queued", "running"].includes((await client.job(running.id)).status));
  await client.cancel(running.id);
  assert.equal(await ended(running.id), "canceled");
});

test("aborting cancels the job", async () => {
  const stop = new AbortController();
  let id = "";
  const making = client.generate(request(LONG), {
    signal: stop.signal,
    onAccepted: (job) => (id = job.id),
    onProgress: () => stop.abort(),
  });
  await assert.rejects(making, { name: "AbortError" });
  assert.equal(await ended(id), "canceled");
});

test("aborting while the request is under way cancels the job as well", async () => {
  const stop = new AbortController();
  const before = await allJobs();
  proxy.fault = (sent) => {
    if (sent.url !== "/generate" || stop.signal.aborted) return undefined;
    stop.abort();
    return "drop answer";
  };
  await assert.rejects(client.generate(request(LONG), { signal: stop.signal }), { name: "AbortError" });
  const [id, ...more] = (await allJobs()).filter((each) => !before.includes(each));
  assert.deepEqual(more, []);
  assert.equal(await ended(id!), "canceled");
});

test("a signal that is aborted already makes no job", async () => {
  const making = client.generate(request(), { signal: AbortSignal.abort(new Error("too late")) });
  await assert.rejects(making, { message: "too late" });
  assert.deepEqual(proxy.paths, []);
});

test("an error in the input names its place", async () => {
  const subjects = [...request().subjects, { phrase: "teapot", image: CAT, box: [0.9, 0.3, 0.5, 0.8] as [number, number, number, number] }];
  const error = await failure(client.generate(request({ subjects, width: 63 })));
  assert.equal(error.status, 422);
  assert.deepEqual(error.errors.map((each) => each.pointer).sort(), ["/subjects/1/box", "/width"]);
  assert.ok(error.requestId);
  assert.equal(error.message, error.detail);
});

test("a picture that is none names its place", async () => {
  const subject = request().subjects[0]!;
  const text = new Blob(["no picture"]);
  const refused = await failure(client.generate(request({ subjects: [subject, { ...subject, images: [CAT, text], image: null }] })));
  assert.equal(refused.status, 422);
  assert.equal(refused.errors[0]?.pointer, "/subjects/1/images/1");
  const missing = await failure(client.generate(request({ subjects: [{ ...subject, image: "no-such.png" }] })));
  assert.deepEqual([missing.status, missing.code, missing.errors[0]?.pointer], [0, "unreadable_picture", "/subjects/0/image"]);
});

test("a request whose answer is lost makes one job", async () => {
  const before = await allJobs();
  let losses = 1;
  proxy.fault = (sent) => (sent.url === "/generate" && losses-- > 0 ? "drop answer" : undefined);
  const { job } = await client.generate(request());
  assert.equal(proxy.paths.filter((path) => path === "POST /generate").length, 2);
  assert.deepEqual((await allJobs()).filter((id) => !before.includes(id)), [job.id]);
});

test("a picture is uploaded once, and again when the service has it no longer", async () => {
  const other = new MsdClient({ baseUrl: client.http.getConfig().baseUrl! });
  let losses = 1;
  proxy.fault = (sent) => (sent.url === "/assets" && losses-- > 0 ? "drop answer" : undefined);
  await other.submit(request());
  assert.equal(uploads(), 2);
  await Promise.all([other.submit(request()), other.submit(request())]);
  assert.equal(uploads(), 2);
  const { id } = await other.upload(CAT);
  await other.submit(request({ subjects: [{ ...request().subjects[0]!, image: `asset:${id}` }] }));
  await api.deleteAsset({ client: other.http, path: { asset_id: id }, throwOnError: true });
  await other.submit(request());
  assert.equal(uploads(), 4);
  const gone = await failure(other.submit(request({ subjects: [{ ...request().subjects[0]!, image: `asset:${"0".repeat(32)}` }] })));
  assert.deepEqual([gone.errors[0]?.code, gone.errors[0]?.pointer], ["asset_not_found", "/subjects/0/image"]);
});

test("a subject of the cast needs no picture", async () => {
  const { id } = await client.upload(CAT);
  const member = { phrase: "cat", image: `asset:${id}` };
  await api.putCast({ client: client.http, path: { name: "rex" }, body: member, throwOnError: true });
  const { job } = await client.generate(request({ subjects: [{ cast: "rex", box: [0.1, 0.1, 0.9, 0.9] }] }));
  assert.equal(job.status, "succeeded");
  await api.deleteCast({ client: client.http, path: { name: "rex" }, throwOnError: true });
  const gone = await failure(client.generate(request({ subjects: [{ cast: "rex", box: [0.1, 0.1, 0.9, 0.9] }] })));
  assert.deepEqual([gone.errors[0]?.code, gone.errors[0]?.pointer], ["cast_not_found", "/subjects/0/cast"]);
});

test("the same key is the same job", async () => {
  const idempotencyKey = `key-${Date.now()}`;
  const first = await client.generate(request({ seed: 1 }), { idempotencyKey });
  const second = await client.generate(request({ seed: 1 }), { idempotencyKey });
  assert.equal(first.job.id, second.job.id);
});

test("while the service is busy the client comes back when it was told to", async () => {
  const refusals = [429, 502, 503, 504];
  proxy.fault = (sent, answer) => {
    const status = refusals.shift();
    if (status === undefined) return undefined;
    sent.resume();
    answer.writeHead(status, { "Retry-After": status === 429 ? "1" : "0" }).end("busy");
    return "done";
  };
  const begin = Date.now();
  const waits: number[] = [];
  assert.ok((await client.submit(request(), { onWait: (ms) => waits.push(ms) })).id);
  assert.equal(proxy.paths.length, 5);
  assert.ok(Date.now() - begin >= 950, "too early");
  assert.deepEqual(waits, [1000, 0, 0, 0]);
});

test("a limit that passes late, or names no time, is an error at once", async () => {
  const detail = "You may ask for 9 steps a day.";
  const own = await client.upload(CAT);
  for (const late of [{ "Retry-After": "86375" }, { "Retry-After": "11" }, {}]) {
    proxy.paths.length = 0;
    proxy.fault = (sent, answer) => {
      sent.resume();
      answer.writeHead(429, { ...late, "Content-Type": "application/problem+json" }).end(JSON.stringify({ code: "steps_spent", detail }));
      return "done";
    };
    for (const promise of [client.submit(request({ subjects: [{ ...request().subjects[0]!, image: `asset:${own.id}` }] })), client.upload(CAT)]) {
      const error = await failure(promise);
      assert.deepEqual([error.status, error.code, error.detail], [429, "steps_spent", detail]);
    }
    assert.deepEqual(proxy.paths, ["POST /generate", "POST /assets"]);
  }
});

test("limits are waited for ten seconds in all, until all is well", () => {
  const patience = new Patience(5);
  const limit = { error: new MsdError({ status: 429, code: "too_many_submits", detail: "Later." }), mayPass: true, delayMs: 6000 };
  assert.equal(patience.delayMs(limit), 6000);
  assert.equal(patience.delayMs(limit), undefined);
  patience.renew();
  assert.equal(patience.delayMs({ ...limit, delayMs: 10_000 }), 10_000);
});

test("other answers are not asked for again", async () => {
  assert.equal((await failure(client.job("no-such-job-at-all"))).code, "job_not_found");
  assert.equal(proxy.paths.length, 1);
  const watching = (async () => {
    for await (const _ of client.watch("no-such-job-at-all")) assert.fail("an event");
  })();
  assert.equal((await failure(watching)).status, 404);
  proxy.fault = (sent, answer) => {
    sent.resume();
    answer.writeHead(500, { "Content-Type": "text/html" }).end("<h1>broken proxy</h1>");
    return "done";
  };
  const error = await failure(client.job("no-such-job-at-all"));
  assert.deepEqual([error.status, error.code], [500, "http_error"]);
});

test("a service that is not there is an error with status 0", async () => {
  const nobody = new MsdClient({ baseUrl: "http://127.0.0.1:9", retries: 1 });
  const error = await failure(nobody.generate(request()));
  assert.deepEqual([error.status, error.code], [0, "connection_lost"]);
  await assert.rejects(new MsdClient({ baseUrl: "no address" }).job("some"), TypeError);
});

test("a job that ends without pictures is an error with the job", async () => {
  const other = await client.submit(request(LONG));
  const expired = await failure(client.generate(request(), { startDeadline: "1s" }));
  assert.deepEqual([expired.code, expired.job?.status], ["start_deadline_passed", "expired"]);
  const canceling = failure(client.result(other.id));
  await client.cancel(other.id);
  const canceled = await canceling;
  assert.deepEqual([canceled.code, canceled.job?.id], ["canceled", other.id]);
});

test("the key is sent, and a picture can be written to a file", async () => {
  let authorization: string | undefined;
  proxy.fault = (sent) => void (authorization = sent.headers.authorization);
  const { pictures } = await client.generate(request());
  assert.equal(authorization, "Bearer not needed");
  await writeFile(join(PICTURES, "made.png"), await pictures[0]!.bytes());
});

test("the key is that of the options, else that of the environment, which browsers do not have", async () => {
  const sent = async (options: { apiKey?: string }) => {
    let key: string | null = null;
    const fetch = async (request: RequestInfo | globalThis.URL) => {
      key = (request as Request).headers.get("Authorization");
      return Response.json({ models: [] });
    };
    await api.listModels({ client: new MsdClient({ baseUrl: URL, fetch, ...options }).http });
    return key;
  };
  const { process } = globalThis;
  process.env.MSD_API_KEY = " msd_environment\n";
  try {
    assert.equal(await sent({}), "Bearer msd_environment");
    assert.equal(await sent({ apiKey: "msd_option" }), "Bearer msd_option");
    assert.equal(await sent({ apiKey: "" }), null);
    Object.defineProperty(globalThis, "process", { value: undefined, configurable: true, writable: true });
    assert.equal(await sent({}), null);
  } finally {
    Object.defineProperty(globalThis, "process", { value: process, configurable: true, writable: true });
    delete process.env.MSD_API_KEY;
  }
  assert.equal(await sent({}), null);
});
