import assert from "node:assert/strict";
import { test } from "node:test";

import { LANGUAGES, type Request, snippet } from "../src/snippets.ts";

const SERVICE = "http://127.0.0.1:8000";
const REQUEST: Request = {
  prompt: "a child's cat",
  subjects: [{ phrase: "cat", image: "asset:abc", box: [0.1, 0.2, 0.5, 0.6], cutout: true }],
  seed: 7,
  width: 512,
  height: 256,
  num_images: 2,
  loras: [{ name: "paper", weight: 0.5 }],
};

test("every language names the service, the prompt and the picture", () => {
  for (const language of LANGUAGES) {
    const text = snippet(language, REQUEST, SERVICE, "mini");
    for (const word of [SERVICE, "asset:abc", "picture-"]) assert.ok(text.includes(word), `${language}: ${word}`);
  }
});

test("the shell gets a quote within its quotes", () => {
  assert.ok(snippet("curl", REQUEST, SERVICE, "mini").includes(`a child'\\''s cat`));
});

test("boxes stand on one line", () => {
  assert.ok(snippet("curl", REQUEST, SERVICE, "mini").includes(`"box": [0.1, 0.2, 0.5, 0.6]`));
  assert.ok(snippet("TypeScript", REQUEST, SERVICE, "mini").includes("box: [0.1, 0.2, 0.5, 0.6]"));
});

test("Python has its own words for values, and the client's classes", () => {
  const text = snippet("Python", REQUEST, SERVICE, "mini");
  assert.ok(text.includes(`Subject("cat", "asset:abc", box=[0.1, 0.2, 0.5, 0.6], cutout=True)`));
  assert.ok(text.includes(`loras=[Lora("paper", 0.5)]`));
  assert.ok(text.includes("seed=7"));
});

test("Python names no picture of a subject that has words alone", () => {
  const subjects = [{ phrase: "tree", prompt: "a tree", box: [0, 0, 1, 1] }];
  assert.ok(snippet("Python", { prompt: "x", subjects }, SERVICE, "mini").includes(`Subject("tree", prompt="a tree", box=[0, 0, 1, 1])`));
});

test("OpenAI's client has its own names, and ours beside them", () => {
  const text = snippet("OpenAI", REQUEST, SERVICE, "mini");
  assert.ok(text.includes("n=2"));
  assert.ok(text.includes(`size="512x256"`));
  assert.match(text, /extra_body=\{"subjects": .*"seed": 7/);
});

test("OpenAI's client names the model; one side alone is no size of it", () => {
  const text = snippet("OpenAI", { prompt: "x", subjects: [], width: 512 }, SERVICE, "mini");
  assert.ok(text.includes(`model="mini"`));
  assert.ok(!text.includes("size="));
  assert.match(text, /extra_body=\{.*"width": 512/);
});

test("words of the prompt that look like numbers stay as they are", () => {
  assert.ok(snippet("curl", { prompt: "[ 1, 2 ]", subjects: [] }, SERVICE, "mini").includes(`"[ 1, 2 ]"`));
});
