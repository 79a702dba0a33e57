import assert from "node:assert/strict";
import { test } from "node:test";

import { DEPTH, edited, redone, started, undone } from "../src/history.ts";

test("undo and redo walk along the edits", () => {
  let history = edited(edited(started("a"), "b", "", 0), "c", "", 0);
  history = undone(history);
  assert.equal(history.now, "b");
  history = undone(undone(history));
  assert.equal(history.now, "a");
  history = redone(redone(redone(history)));
  assert.equal(history.now, "c");
});

test("an edit ends what could be redone", () => {
  const history = edited(undone(edited(started("a"), "b", "", 0)), "c", "", 0);
  assert.equal(redone(history).now, "c");
  assert.equal(undone(history).now, "a");
});

test("typing is one edit, until a pause or another field", () => {
  let history = edited(edited(started(""), "c", "prompt", 10_000), "ca", "prompt", 10_500);
  assert.equal(undone(history).now, "");
  history = edited(history, "cat", "prompt", 12_000);
  assert.equal(undone(history).now, "ca");
  history = edited(history, "cat!", "phrase", 12_100);
  assert.equal(undone(history).now, "cat");
});

test("what was undone is not joined by the next edit", () => {
  const history = undone(edited(edited(started(""), "c", "", 1), "ca", "prompt", 2));
  assert.equal(undone(edited(history, "cb", "prompt", 3)).now, "c");
});

test("the oldest edits are forgotten", () => {
  let history = started(0);
  for (let n = 1; n <= DEPTH + 10; n++) history = edited(history, n, "", 0);
  assert.equal(history.past.length, DEPTH);
});
