import assert from "node:assert/strict";
import { test } from "node:test";

import { type Box, centred } from "../src/boxes.ts";
import { withArea, withAspect } from "../src/presets.ts";

const BOX: Box = [0.2, 0.3, 0.6, 0.7];
const SQUARE = { width: 512, height: 512 };

test("another area keeps the shape and the centre", () => {
  assert.deepEqual(withArea(BOX, 0.04), [0.3, 0.4, 0.5, 0.6]);
  assert.deepEqual(withArea([0.1, 0.1, 0.5, 0.3], 0.02), [0.2, 0.15, 0.4, 0.25]);
});

test("a box that grows stays in the picture, and shrinks if it must", () => {
  assert.deepEqual(withArea([0, 0, 0.2, 0.2], 0.36), [0, 0, 0.6, 0.6]);
  assert.deepEqual(withArea([0, 0.4, 0.8, 0.6], 0.36), [0, 0.375, 1, 0.625]);
});

test("another shape is one of pixels", () => {
  assert.deepEqual(withAspect(BOX, 4, SQUARE), [0, 0.4, 0.8, 0.6]);
  assert.deepEqual(withAspect(BOX, 1, { width: 1024, height: 512 }), [0.2586, 0.2172, 0.5414, 0.7828]);
});

test("what is dropped lies around the pointer, within the picture", () => {
  assert.deepEqual(centred({ x: 0.5, y: 0.6 }, 0.4, 0.2), [0.3, 0.5, 0.7, 0.7]);
  assert.deepEqual(centred({ x: 0, y: 1 }, 0.4, 0.2), [0, 0.8, 0.4, 1]);
});
