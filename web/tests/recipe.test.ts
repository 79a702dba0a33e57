import assert from "node:assert/strict";
import { test } from "node:test";

import { documentOf } from "../src/recipe.ts";

const RECIPE = {
  prompt: "a cat in this place",
  subjects: [
    { phrase: "cat", image: "sha256:aa", box: [0.1, 0.2, 0.5, 0.6], z_index: 2, feather: 0.1, scale: null },
    { phrase: "this place", images: ["sha256:bb", "sha256:cc"], scene: true, z_index: 0, scale: 0.4 },
  ],
  seed: 7,
  previews: true,
  negative_prompt: null,
  start: { image: "sha256:dd" },
};

test("a recipe becomes a document, its subjects from back to front", () => {
  const { prompt, subjects } = documentOf(RECIPE).document;
  assert.equal(prompt, RECIPE.prompt);
  assert.deepEqual(
    subjects.map(({ phrase, pictures, box, scene, scale }) => ({ phrase, pictures, box, scene, scale })),
    [
      { phrase: "this place", pictures: ["sha256:bb", "sha256:cc"], box: null, scene: true, scale: 0.4 },
      { phrase: "cat", pictures: ["sha256:aa"], box: [0.1, 0.2, 0.5, 0.6], scene: undefined, scale: undefined },
    ],
  );
});

test("a painted shape is one of its pictures", () => {
  const { subjects } = documentOf({ prompt: "a cat", subjects: [{ phrase: "cat", image: "sha256:aa", mask: "sha256:ee" }] }).document;
  assert.equal(subjects[0]?.mask, "sha256:ee");
  assert.equal(subjects[0]?.rest, undefined);
});

test("a subject keeps the words for its place, and needs no picture then", () => {
  const tree = { phrase: "tree", prompt: "a tree in the rain", box: [0.1, 0.2, 0.5, 0.6] };
  const { document, leftOut } = documentOf({ prompt: "a cat", subjects: [tree] });
  assert.deepEqual(document.subjects, [{ key: "recipe-0", colour: 0, pictures: [], ...tree }]);
  assert.deepEqual(leftOut, []);
  assert.deepEqual(documentOf({ prompt: "a cat", subjects: [{ ...tree, prompt: 5 }] }).leftOut, ["prompt of tree"]);
});

test("what no field shows is kept for the request", () => {
  const { subjects, options } = documentOf(RECIPE).document;
  assert.deepEqual(subjects[1]?.rest, { feather: 0.1 });
  assert.deepEqual(options, { seed: 7, start: { image: "sha256:dd" } });
});
