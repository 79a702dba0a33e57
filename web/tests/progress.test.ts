import assert from "node:assert/strict";
import { test } from "node:test";

import { furthest } from "../src/progress.ts";

const at = (step: number, phase = "denoise") => ({ phase, step, steps: 20, fraction: step / 20 });

test("progress never goes back", () => {
  assert.deepEqual(furthest(at(7), at(3)), at(7));
  assert.deepEqual(furthest(at(7), at(8)), at(8));
  assert.deepEqual(furthest(at(20), at(20, "decode")), at(20, "decode"));
});
