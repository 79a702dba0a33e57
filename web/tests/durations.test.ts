import assert from "node:assert/strict";
import { test } from "node:test";

import { about } from "../src/durations.ts";

test("what takes long is said in minutes, and nothing takes no time", () => {
  assert.deepEqual([0.2, 1.6, 89.4, 90, 478].map(about), ["about 1 s", "about 2 s", "about 89 s", "about 2 min", "about 8 min"]);
});
