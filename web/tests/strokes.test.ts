import assert from "node:assert/strict";
import { test } from "node:test";

import { boundsOf, resized, SIZES } from "../src/strokes.ts";

/** RGBA pixels of rows in which a dot is black. */
const pixels = (rows: string[]) => new Uint8ClampedArray(rows.flatMap((row) => [...row].flatMap((mark) => (mark === "." ? [0, 0, 0, 255] : [255, 255, 255, 255]))));

test("the box around what is painted includes every pixel of it", () => {
  assert.deepEqual(boundsOf(pixels(["....", ".##.", "..#.", "...."]), 4, 4), [0.25, 0.25, 0.75, 0.75]);
  assert.deepEqual(boundsOf(pixels(["#...", "....", "....", "...#"]), 4, 4), [0, 0, 1, 1]);
});

test("nothing that is painted has no box", () => {
  assert.equal(boundsOf(pixels(["....", "...."]), 4, 2), null);
});

test("the brush stays within its sizes", () => {
  let size = SIZES.usual;
  for (let n = 0; n < 40; n++) size = resized(size, 1);
  assert.equal(size, SIZES.most);
  for (let n = 0; n < 40; n++) size = resized(size, -1);
  assert.equal(size, SIZES.least);
});
