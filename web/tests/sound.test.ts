import assert from "node:assert/strict";
import { test } from "node:test";

import { imported } from "../src/imports.ts";
import { documentOf } from "../src/recipe.ts";
import { soundDocument } from "../src/sound.ts";

const WHOLE = {
  prompt: "a cat on the beach",
  subjects: [
    { key: "a1", phrase: "cat", pictures: ["asset:1"], box: [0.1, 0.2, 0.5, 0.6], colour: 3, mask: "asset:2", prompt: "a cat in the rain", scale: 0.5, cutout: true, locked: true, rest: { feather: 0.1 } },
    { key: "b2", phrase: "the beach", pictures: [], box: null, colour: 0, scene: true },
  ],
  options: { width: 128, seed: 7, negative_prompt: "", loras: [{ name: "x", weight: 0.5 }], start: { image: "asset:3", redraw: [0] }, layout: { mode: "auto" } },
};

test("what the page has kept comes back as it was", () => {
  assert.deepEqual(soundDocument(JSON.parse(JSON.stringify(WHOLE))), WHOLE);
});

test("what holds no subjects is no document", () => {
  for (const value of [null, 5, "x", [], {}, { subjects: 5 }, { subjects: { 0: {} } }]) assert.equal(soundDocument(value), null);
});

test("what could not be shown is left out", () => {
  const subjects = [null, 5, { phrase: { a: 1 }, pictures: "abc", box: ["a", 1, 2, 3], scale: "big", colour: -1, rest: 5 }, { key: "k", pictures: [5, "asset:1", "asset:1"] }, { key: "k" }];
  const options = { loras: 5, controls: { a: 1 }, start: { image: 5 }, seed: "x", width: [1], negative_prompt: {}, score: 1 };
  assert.deepEqual(soundDocument({ prompt: 5, subjects, options }), {
    prompt: "",
    subjects: [
      { key: "subject-0", phrase: "", pictures: [], box: null, colour: 0 },
      { key: "k", phrase: "", pictures: ["asset:1"], box: null, colour: 1 },
      { key: "subject-2", phrase: "", pictures: [], box: null, colour: 2 },
    ],
    options: {},
  });
});

test("a box is its part within the picture", () => {
  const boxes = [[-50, -50, 900, 900], [0.5, 0.5, 9, 9], [2, 2, 3, 3], [0.5, 0.5, 0.4, 0.9], [0, 0, 1], [0, 0, 1, null]];
  const subjects = boxes.map((box) => ({ box }));
  assert.deepEqual(
    soundDocument({ subjects })!.subjects.map(({ box }) => box),
    [[0, 0, 1, 1], [0.5, 0.5, 1, 1], null, null, null, null],
  );
});

test("a request or recipe that lies is read as far as it can be", () => {
  const request = { subjects: [null, { phrase: 7, images: "x", box: { xywh: "q" }, mask: 5 }], start: 5, loras: { a: 1 }, seed: 3 };
  const expected = { prompt: "", subjects: [{ key: "recipe-0", phrase: "", pictures: [], box: null, colour: 0 }], options: { seed: 3 } };
  assert.deepEqual(documentOf(request).document, expected);
  assert.deepEqual(imported(JSON.stringify(request), expected, { width: 8, height: 8 })!.document, expected);
});
