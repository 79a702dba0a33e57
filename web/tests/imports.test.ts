import assert from "node:assert/strict";
import { test } from "node:test";

import type { Document } from "../src/document.ts";
import { imported } from "../src/imports.ts";

const SIZE = { width: 128, height: 128 };
const NOW: Document = {
  prompt: "a cat and a dog",
  subjects: [
    { key: "a", phrase: "cat", pictures: ["asset:1"], box: [0, 0, 0.5, 0.5], colour: 0 },
    { key: "b", phrase: "dog", pictures: ["asset:2"], box: null, colour: 1 },
  ],
  options: { seed: 7 },
};
const read = (value: unknown) => imported(JSON.stringify(value), NOW, SIZE)?.document;
const leftOut = (value: unknown) => imported(JSON.stringify(value), NOW, SIZE)!.leftOut;
const boxes = (value: unknown) => read(value)?.subjects.map(({ phrase, box }) => [phrase, box]);

test("a request of ours becomes the document, its boxes in any form", () => {
  const subjects = [
    { phrase: "cat", image: "asset:3", box: { xywh: [0.25, 0.25, 0.5, 0.5] } },
    { phrase: "dog", images: ["asset:4", "asset:5"], box: { pixels: [0, 32, 64, 128] } },
  ];
  const request = { prompt: "x", subjects, width: 256 };
  for (const value of [request, { recipe: request, made: null }, { request, warnings: [] }]) {
    assert.deepEqual(boxes(value), [["cat", [0.25, 0.25, 0.75, 0.75]], ["dog", [0, 0.25, 0.25, 1]]]);
    assert.deepEqual(read(value)!.options, { width: 256 });
  }
  assert.deepEqual(read(request)!.subjects.map(({ pictures }) => pictures), [["asset:3"], ["asset:4", "asset:5"]]);
});

test("a layout of Ideogram becomes prompt and subjects", () => {
  const elements = [
    { type: "obj", bbox: [100, 200, 500, 600], desc: "A red fox, sitting in the grass" },
    { type: "text", bbox: [0, 0, 100, 1000], text: "HELLO", desc: "a headline" },
    { type: "obj", desc: "an owl" },
    { type: "obj", bbox: [-50, 900, 1100, 1200], desc: "birch" },
  ];
  const layout = { high_level_description: "A fox and an owl.", compositional_deconstruction: { background: "grass", elements } };
  assert.equal(read(layout)!.prompt, "A fox and an owl.");
  assert.deepEqual(boxes(layout), [["red fox", [0.2, 0.1, 0.6, 0.5]], ["owl", null], ["birch", [0.9, 0, 1, 1]]]);
  assert.deepEqual(read(layout)!.options, NOW.options);
});

test("boxes of ComfyUI go to the subjects that they name, to those without, to new ones", () => {
  const list = [
    { x: 512, y: 0, width: 256, height: 1024, label: "cat" },
    { x: 0, y: 512, width: 512, height: 512 },
    { x: 0, y: 0, width: 512, height: 512 },
  ];
  const expected = [["cat", [0.5, 0, 0.75, 1]], ["dog", [0, 0.5, 0.5, 1]], ["", [0, 0, 0.5, 0.5]]];
  for (const value of [list, [list], { boxes: list }, { width: 1024, height: 1024, boxes: list }]) assert.deepEqual(boxes(value), expected);
  assert.equal(read(list)!.prompt, NOW.prompt);
  // Of a picture of 1024 pixels, though none reaches its border.
  assert.deepEqual(boxes([{ x: 256, y: 512, width: 512, height: 256 }])![1], ["dog", [0.25, 0.5, 0.75, 0.75]]);
  assert.deepEqual(boxes([{ x: 0.5, y: 0, width: 0.5, height: 1 }])![1], ["dog", [0.5, 0, 1, 1]]);
  assert.deepEqual(boxes({ width: 2048, height: 1024, boxes: [{ x: 1024, y: 0, width: 1024, height: 512 }] })![1], ["dog", [0.5, 0, 1, 0.5]]);
});

test("whatever else is pasted is no layout", () => {
  for (const text of ["", "a cat", "{", "[]", "[1, 2]", "{}", '{"elements": 3}', '[{"x": "1"}]', "7", "null"]) assert.equal(imported(text, NOW, SIZE), null, text);
});

test("what is left out of a layout has its name", () => {
  const subjects = [{ phrase: "cat", image: 5, box: { pixels: 3 }, scale: "big", mask: null, cutout: false }, null, { phrase: "dog", image: "asset:1", box: [0, 0, 1, 1] }];
  assert.deepEqual(leftOut({ prompt: 5, subjects, loras: "x", seed: 3, extra: [1] }), ["prompt", "pictures of cat", "box of cat", "scale of cat", "subject 2", "loras"]);
  const elements = [{ type: "text", text: "HELLO", bbox: [0, 0, 1, 1] }, 5, { desc: "an owl", bbox: [1, 2] }, { desc: "a fox" }];
  assert.deepEqual(leftOut({ background: "grass", elements, style_description: "oil" }), ["style_description", "writing “HELLO”", "element 2", "bbox of owl"]);
  assert.deepEqual(leftOut([{ x: 0, y: 0, width: 0, height: 0, label: "cat" }, { x: 0, y: 0, width: 1, height: 1 }]), ["box of cat"]);
});
