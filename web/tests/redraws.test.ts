import assert from "node:assert/strict";
import { test } from "node:test";

import type { Document } from "../src/document.ts";
import { redrawsOf } from "../src/redraws.ts";

const document = { subjects: [{ phrase: "cat" }, { phrase: "" }] } as Document;
const score = (redraws: { subject: number | null; kept: boolean }[]) => ({ draws: redraws.length + 1, subjects: [], redraws });

test("each redraw says what it drew, and whether that was kept", () => {
  const redraws = [
    { subject: 0, kept: true },
    { subject: null, kept: false },
    { subject: 1, kept: true },
  ];
  assert.equal(redrawsOf({ score: score(redraws), document }), "Drawn again: cat, all (no better, not kept), subject 1");
});

test("a picture of one draw says nothing, and neither does one of an older version", () => {
  assert.equal(redrawsOf({ score: null, document }), undefined);
  assert.equal(redrawsOf({ score: score([]), document }), undefined);
  assert.equal(redrawsOf({ score: { draws: 2, subjects: [] } as never, document }), undefined);
});
