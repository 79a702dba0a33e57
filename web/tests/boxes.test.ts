import assert from "node:assert/strict";
import { test } from "node:test";

import {
  between,
  type Box,
  cycle,
  describe,
  freePlace,
  hit,
  linesOf,
  move,
  overlap,
  reordered,
  resize,
  secondPlace,
  shapes,
  sideBySide,
  sideOf,
  snapMove,
  snapResize,
  withSide,
} from "../src/boxes.ts";

const BOX: Box = [0.2, 0.3, 0.6, 0.7];
const REACH = { x: 0.02, y: 0.02 };

test("a box moves, and stops at the border with its size", () => {
  assert.deepEqual(move(BOX, 0.1, -0.1), [0.3, 0.2, 0.7, 0.6]);
  assert.deepEqual(move(BOX, 5, 5), [0.6, 0.6, 1, 1]);
  assert.deepEqual(move(BOX, -5, -5), [0, 0, 0.4, 0.4]);
});

test("a handle moves only the edges that it holds", () => {
  assert.deepEqual(resize(BOX, "nw", -0.1, -0.1), [0.1, 0.2, 0.6, 0.7]);
  assert.deepEqual(resize(BOX, "e", 0.1, 0.1), [0.2, 0.3, 0.7, 0.7]);
  assert.deepEqual(resize(BOX, "s", 0.1, 0.1), [0.2, 0.3, 0.6, 0.8]);
});

test("an edge stops at the border and before its opposite", () => {
  assert.deepEqual(resize(BOX, "se", 5, 5), [0.2, 0.3, 1, 1]);
  assert.deepEqual(resize(BOX, "se", -5, -5), [0.2, 0.3, 0.22, 0.32]);
  assert.deepEqual(resize(BOX, "nw", 5, 5), [0.58, 0.68, 0.6, 0.7]);
});

test("two corners make a box in any order, never an empty one, never outside", () => {
  const box = [0.1, 0.2, 0.5, 0.6];
  assert.deepEqual(between({ x: 0.1, y: 0.2 }, { x: 0.5, y: 0.6 }), box);
  assert.deepEqual(between({ x: 0.5, y: 0.2 }, { x: 0.1, y: 0.6 }), box);
  assert.deepEqual(between({ x: 0.5, y: 0.5 }, { x: 0.5, y: 0.5 }), [0.5, 0.5, 0.52, 0.52]);
  assert.deepEqual(between({ x: 2, y: 2 }, { x: 3, y: 3 }), [0.98, 0.98, 1, 1]);
});

test("number fields set one number and keep the others where they can", () => {
  assert.deepEqual(withSide(BOX, "left", 0.1), [0.1, 0.3, 0.5, 0.7]);
  assert.deepEqual(withSide(BOX, "top", 0.9), [0.2, 0.6, 0.6, 1]);
  assert.deepEqual(withSide(BOX, "width", 0.1), [0.2, 0.3, 0.3, 0.7]);
  assert.deepEqual(withSide(BOX, "height", 9), [0.2, 0.3, 0.6, 1]);
  assert.equal(sideOf(BOX, "height"), 0.4);
});

test("a moved box snaps by an edge or its centre, to thirds, borders and other boxes", () => {
  const lines = linesOf([[0.05, 0.05, 0.15, 0.15]]);
  assert.deepEqual(snapMove([0.34, 0.4, 0.44, 0.45], lines, REACH).box, [0.3333, 0.4, 0.4333, 0.45]);
  assert.deepEqual(snapMove([0.41, 0.4, 0.61, 0.45], lines, REACH), { box: [0.4, 0.4, 0.6, 0.45], x: 0.5, y: undefined });
  assert.deepEqual(snapMove([0.16, 0.7, 0.26, 0.8], lines, REACH).box, [0.15, 0.7, 0.25, 0.8]);
  assert.deepEqual(snapMove([0.7, 0.989, 0.8, 0.999], lines, REACH).box, [0.7, 0.99, 0.8, 1]);
});

test("nothing snaps beyond its reach", () => {
  const box: Box = [0.36, 0.4, 0.44, 0.46];
  assert.deepEqual(snapMove(box, linesOf([]), { x: 0.005, y: 0.005 }), { box, x: undefined, y: undefined });
});

test("a resized box snaps with the edges of its handle only", () => {
  const { box, x, y } = snapResize([0.34, 0.34, 0.66, 0.66], "e", linesOf([]), REACH);
  assert.deepEqual(box, [0.34, 0.34, 0.6667, 0.66]);
  assert.equal(x, 2 / 3);
  assert.equal(y, undefined);
});

test("the box in front is hit first, and a second click reaches the one behind", () => {
  const boxes: (Box | null)[] = [[0, 0, 0.5, 0.5], null, [0.2, 0.2, 0.9, 0.9], [0.8, 0.8, 1, 1]];
  const hits = hit(boxes, { x: 0.3, y: 0.3 });
  assert.deepEqual(hits, [2, 0]);
  assert.equal(cycle(hits, 2), 0);
  assert.equal(cycle(hits, 0), 2);
  assert.equal(cycle(hits, 3), 2);
  assert.equal(cycle([], 0), undefined);
});

test("the order changes by one item", () => {
  assert.deepEqual(reordered(["a", "b", "c"], 0, 2), ["b", "c", "a"]);
  assert.deepEqual(reordered(["a", "b", "c"], 2, 1), ["a", "c", "b"]);
});

test("a new box lies in the free middle", () => {
  assert.deepEqual(freePlace([]), [0.3, 0.3, 0.7, 0.7]);
  const others: Box[] = [[0, 0, 0.5, 1]];
  const box = freePlace(others);
  assert.equal(overlap(box, others[0]!), 0);
  assert.deepEqual(box, [0.51, 0.3, 0.91, 0.7]);
});

test("a new box is smaller where it would cover others", () => {
  const middle = freePlace([]);
  const second = freePlace([middle]);
  assert.equal(overlap(middle, second), 0);
  assert.equal(overlap(freePlace([middle, second]), middle) + overlap(freePlace([middle, second]), second), 0);
});

test("several new boxes stand side by side", () => {
  for (let count = 1; count <= 16; count++) {
    const boxes = sideBySide(count);
    assert.equal(boxes.length, count);
    for (const [index, box] of boxes.entries()) {
      assert.ok(box.every((edge) => edge >= 0 && edge <= 1) && sideOf(box, "width") > 0.2, `${count}: ${box}`);
      for (const other of boxes.slice(0, index)) assert.equal(overlap(box, other), 0, `${count}: ${box} over ${other}`);
    }
  }
  assert.deepEqual(sideBySide(2), [[0.05, 0.3, 0.45, 0.7], [0.55, 0.3, 0.95, 0.7]]);
});

test("a second box stands beside the first, unless that was moved", () => {
  assert.deepEqual(secondPlace(freePlace([])), [[0.05, 0.3, 0.45, 0.7], [0.55, 0.3, 0.95, 0.7]]);
  assert.equal(secondPlace([0.3, 0.31, 0.7, 0.71]), null);
});

test("a full picture still has room for a new box", () => {
  assert.deepEqual(freePlace([[0, 0, 1, 1]]), [0.3, 0.3, 0.7, 0.7]);
});

test("a screen reader hears where a box is", () => {
  const words = "cat, 40 percent wide, 45 percent tall, 5 percent from the left, 34 percent from the top";
  assert.equal(describe("cat", [0.05, 0.34, 0.45, 0.79]), words);
  assert.match(describe("", BOX), /^unnamed, /);
});

test("shapes keep the model's area within its limits", () => {
  const sizes = shapes({ width: 1024, height: 1024 }, { width: 1280, height: 1280 });
  assert.deepEqual(sizes[0], { name: "Square", width: 1024, height: 1024 });
  for (const { width, height } of sizes) {
    assert.equal(width % 64, 0);
    assert.ok(width <= 1280 && height <= 1280);
  }
});
