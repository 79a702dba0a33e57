import assert from "node:assert/strict";
import { test } from "node:test";

import { Gate } from "../src/gate.ts";

const URL = "http://127.0.0.1/jobs";
const settled = () => new Promise((resolve) => setTimeout(resolve, 5));

/** A service that wants a session; what it was sent, and how often the gate was shut. */
function service() {
  const state = { isSignedIn: false, sent: [] as string[], shut: 0 };
  const gate = new Gate(
    async (request) => {
      state.sent.push(await request.text());
      return new Response(null, { status: state.isSignedIn ? 200 : 401 });
    },
    () => state.shut++,
  );
  const post = (body: string, signal?: AbortSignal) => gate.fetch(URL, { method: "POST", body, ...(signal && { signal }) });
  const signIn = () => {
    state.isSignedIn = true;
    gate.open();
  };
  return { state, gate, post, signIn };
}

test("what is refused is sent again, whole, when somebody has signed in; what comes meanwhile waits", async () => {
  const { state, post, signIn } = service();
  const first = post("one");
  await settled();
  const second = post("two");
  await settled();
  assert.deepEqual(state.sent, ["one"]);
  signIn();
  assert.deepEqual([(await first).status, (await second).status], [200, 200]);
  assert.deepEqual(state.sent.toSorted(), ["one", "one", "two"]);
  assert.equal(state.shut, 1);
});

test("a refusal that comes after somebody has signed in asks for nothing", async () => {
  let answer = (_: Response) => {};
  let shut = 0;
  const gate = new Gate(() => new Promise((resolve) => (answer = resolve)), () => shut++);
  const late = gate.fetch(URL);
  await settled();
  gate.open();
  answer(new Response(null, { status: 401 }));
  await settled();
  answer(new Response(null, { status: 200 }));
  assert.equal((await late).status, 200);
  assert.equal(shut, 0);
});

test("a session that ends again asks again", async () => {
  const { state, post, signIn } = service();
  const first = post("one");
  await settled();
  signIn();
  await first;
  state.isSignedIn = false;
  const second = post("two");
  await settled();
  assert.equal(state.shut, 2);
  signIn();
  assert.equal((await second).status, 200);
});

test("what is given up while it waits is not sent", async () => {
  const { state, post, signIn } = service();
  void post("one");
  await settled();
  const gone = new AbortController();
  const second = post("two", gone.signal);
  await settled();
  gone.abort();
  await assert.rejects(second, { name: "AbortError" });
  signIn();
  await settled();
  assert.ok(!state.sent.includes("two"));
});
