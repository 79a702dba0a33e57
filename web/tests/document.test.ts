import assert from "node:assert/strict";
import { test } from "node:test";

import { addSubject, doc, EMPTY, ownWords, removeBox, start } from "../src/document.ts";

test("blanks are no words of a subject's own", () => {
  assert.equal(ownWords({ prompt: " a tree " }), " a tree ");
  for (const prompt of [undefined, "", " \n"]) assert.equal(ownWords({ prompt }), undefined);
});

test("a subject that is nothing but its box goes with it, and one that has words stays", () => {
  for (const [prompt, left] of [["a tree", 1], ["  ", 0], [undefined, 0]] as const) {
    start(EMPTY);
    removeBox(addSubject({ prompt }));
    assert.equal(doc.value.subjects.length, left);
  }
});
