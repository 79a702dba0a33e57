import type { Document } from "./document.ts";

/** Whole documents with the bundled pictures, and an empty one. */
export const EXAMPLES: { name: string; document: Document }[] = [
  {
    name: "Side by side on the beach",
    document: {
      prompt: "a tomato and a leafy green on the beach",
      subjects: [
        { key: "a", phrase: "tomato", pictures: ["demo:tomato"], box: [0.05, 0.34, 0.45, 0.74], colour: 0 },
        { key: "b", phrase: "leafy green", pictures: ["demo:leafy-green"], box: [0.55, 0.34, 0.95, 0.74], colour: 1 },
      ],
      options: {},
    },
  },
  {
    name: "A small one in a corner, at night",
    document: {
      prompt: "a tomato and a leafy green in the forest at night",
      subjects: [
        { key: "a", phrase: "leafy green", pictures: ["demo:leafy-green"], box: [0.3, 0.25, 0.95, 0.95], colour: 1 },
        { key: "b", phrase: "tomato", pictures: ["demo:tomato"], box: [0.02, 0.62, 0.32, 0.96], colour: 0 },
      ],
      options: {},
    },
  },
  {
    name: "One above the other, in the snow",
    document: {
      prompt: "a tomato and a leafy green in the snow",
      subjects: [
        { key: "a", phrase: "leafy green", pictures: ["demo:leafy-green"], box: [0.28, 0.5, 0.72, 0.98], colour: 1 },
        { key: "b", phrase: "tomato", pictures: ["demo:tomato"], box: [0.3, 0.04, 0.7, 0.46], colour: 0 },
      ],
      options: {},
    },
  },
  {
    name: "One before the other, twice, in sepia",
    document: {
      prompt: "a leafy green and a tomato on a wooden table in sepia",
      subjects: [
        { key: "a", phrase: "leafy green", pictures: ["demo:leafy-green"], box: [0.1, 0.15, 0.75, 0.8], colour: 1 },
        { key: "b", phrase: "tomato", pictures: ["demo:tomato"], box: [0.45, 0.45, 0.95, 0.95], cutout: true, colour: 0 },
      ],
      options: { num_images: 2, seed: 7 },
    },
  },
  { name: "Empty, for your own", document: { prompt: "", subjects: [], options: {} } },
];
