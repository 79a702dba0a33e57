import assert from "node:assert/strict";
import { test } from "node:test";

import type { Document } from "../src/document.ts";
import { chanceOf, redrawsOf, weakestOf } from "../src/redraws.ts";

const document = { subjects: [{ phrase: "cat" }, { phrase: "" }] } as Document;
const score = (redraws: { subject: number | null; kept: boolean }[]) => ({ draws: redraws.length + 1, subjects: [], redraws });

test("each redraw says what it drew, and whether that was kept", () => {
  const redraws = [
    { subject: 0, kept: true },
    { subject: null, kept: false },
    { subject: 1, kept: true },
  ];
  assert.equal(redrawsOf({ score: score(redraws), document }), "Drawn again: cat, all (no better, not kept), subject 2");
});

test("a picture of one draw says nothing, and neither does one of an older version", () => {
  assert.equal(redrawsOf({ score: null, document }), undefined);
  assert.equal(redrawsOf({ score: score([]), document }), undefined);
  assert.equal(redrawsOf({ score: { draws: 2, subjects: [] } as never, document }), undefined);
});

const chances = (...pairs: [number | null, number | null][]) => ({
  subjects: pairs.map(([present, identity], subject) => ({ subject: 2 * subject, present, identity, box_iou: null })),
});

test("a subject turned out as well as the lower of its probabilities says", () => {
  assert.deepEqual(chances([0.4, 0.9], [0.9, 0.4], [0.4, null], [null, null]).subjects.map(chanceOf), [0.4, 0.4, 0.4, null]);
});

test("the weakest is the one that is drawn again, missing or another one", () => {
  assert.equal(weakestOf(chances([0.9, 0.9], [0.9, 0.6], [0.3, 0.8])), 4);
  assert.equal(weakestOf(chances([0.9, 0.5], [null, null], [0.9, 0.8])), 0);
  for (const none of [[], [[0.1, 0.2]], [[0.1, 0.2], [null, null]], [[0.2, 0.9], [0.9, 0.2]]]) {
    assert.equal(weakestOf(chances(...(none as [number, number][]))), undefined);
  }
});
