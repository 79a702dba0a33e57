import { type Box, clamp, type Point, round } from "./boxes.ts";

/** One thing done to a painted shape. Positions are fractions of the picture's width and height. */
export type Mark =
  /** What was painted before. */
  | { kind: "base" }
  | { kind: "fill"; box: Box }
  /** `size` is the brush's diameter, in fractions of the picture's shorter side. */
  | { kind: "stroke"; points: Point[]; size: number; erases: boolean };

export const SIZES = { least: 0.01, most: 0.5, usual: 0.12 };
const LONGER = 1.25;

/** A larger (1) or smaller (-1) brush. */
export const resized = (size: number, by: 1 | -1): number => round(clamp(by > 0 ? size * LONGER : size / LONGER, SIZES.least, SIZES.most));

/** The smallest box around what is not black in RGBA pixels, null if all is. */
export function boundsOf(pixels: Uint8ClampedArray, width: number, height: number): Box | null {
  let [left, top, right, bottom] = [width, height, 0, 0];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (pixels[(y * width + x) * 4] === 0) continue;
      left = Math.min(left, x);
      right = Math.max(right, x + 1);
      top = Math.min(top, y);
      bottom = Math.max(bottom, y + 1);
    }
  }
  return right === 0 ? null : [round(left / width), round(top / height), round(right / width), round(bottom / height)];
}
