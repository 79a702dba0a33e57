import assert from "node:assert/strict";
import { test } from "node:test";

import { leftOutWords, mayBeSentAgain, missingWords, refusalOfKey, sendingAgainHelps, shortened, whyNotSent } from "../src/messages.ts";

test("long quotations are cut, short ones stay", () => {
  const long = "word ".repeat(40);
  const start = `"${"word ".repeat(12).trimEnd()} …"`;
  assert.equal(shortened(`The model does not read the end of this text: "${long}"`), `The model does not read the end of this text: ${start}`);
  assert.equal(shortened(`Not read: "${long}" and 23 more characters.`), `Not read: ${start}.`);
  for (const sentence of ["no quotation", `"a cat" and, after sixty characters that are in no quotation marks at all, "a dog"`]) assert.equal(shortened(sentence), sentence);
});

const refusal = (status: number, code: string, detail: string, ...errors: string[]) => ({
  status,
  code,
  detail,
  errors: errors.map((one) => ({ pointer: "", code, detail: one })),
});

test("each failure of an upload has words, and says whether the picture may be sent again", () => {
  const cases: [ReturnType<typeof refusal>, RegExp, boolean][] = [
    [refusal(0, "connection_lost", "x"), /not sent: the service cannot be reached/, true],
    [refusal(413, "http_error", "The service answered 413"), /too large to be sent\. Use a smaller one\.$/, false],
    [refusal(413, "body_too_large", "The body is larger than 9 bytes."), /too large to be sent\. The body is larger than 9 bytes\.$/, false],
    [refusal(413, "picture_too_large", "x", "It is larger than 5 pixels."), /^It is larger than 5 pixels\.$/, false],
    [refusal(422, "invalid", "1 error", "It is damaged."), /^It is damaged\.$/, false],
    [refusal(429, "too_many", "Wait."), /could not take this picture now\. Wait\.$/, true],
    [refusal(503, "storage_full", "The disk is full."), /could not take this picture now\. The disk is full\.$/, true],
  ];
  for (const [error, words, again] of cases) {
    assert.match(whyNotSent(error), words);
    assert.equal(mayBeSentAgain(error), again);
  }
});

test("what was left out is named, but not without end", () => {
  assert.equal(leftOutWords([]), "");
  assert.equal(leftOutWords(["loras", "box of cat"]), " Left out: loras, box of cat.");
  assert.equal(leftOutWords([..."abcdefg"]), " Left out: a, b, c, d, e and 2 more.");
});

test("what is wrong with a key is the service's sentence, with the time to wait", () => {
  const detail = "This key does not work here.";
  assert.deepEqual(refusalOfKey(401, { detail }, null), { words: detail, seconds: 0 });
  assert.deepEqual(refusalOfKey(429, { detail: "Too many." }, "42"), { words: "Too many. That is in 42 seconds.", seconds: 42 });
  assert.deepEqual(refusalOfKey(429, { detail: "Too many." }, null), { words: "Too many. That is in 1 second.", seconds: 1 });
  assert.deepEqual(refusalOfKey(0, undefined, null), { words: "The service cannot be reached.", seconds: 0 });
  assert.deepEqual(refusalOfKey(502, "<html>", null), { words: "The service answered 502.", seconds: 0 });
});

test("of pictures that are missing after a reload is said whether they were there", () => {
  assert.deepEqual(missingWords(1, true), { words: "This picture is not on the service any more.", remedy: "Add it again" });
  assert.deepEqual(missingWords(2, true), { words: "2 pictures are not on the service any more.", remedy: "Add them again" });
  assert.deepEqual(missingWords(1, false), { words: "The service did not take this picture.", remedy: "Choose another" });
  assert.deepEqual(missingWords(2, false), { words: "The service did not take 2 pictures.", remedy: "Choose others" });
});

test("a picture that this key may not send may be sent with another", () => {
  assert.ok(mayBeSentAgain({ status: 403 }));
  assert.ok(!sendingAgainHelps({ status: 403 }));
  assert.ok(sendingAgainHelps({ status: 503 }));
  assert.ok(!sendingAgainHelps({ status: 422 }));
  assert.equal(whyNotSent(refusal(403, "missing_scope", "This key may not do that.")), "This key may not do that.");
});
