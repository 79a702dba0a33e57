// OpenAI's own client for Node.
import { strict as assert } from "node:assert"
import { after, before, test } from "node:test"
import OpenAI, { toFile } from "openai"
import * as given from "./support.js"

const { prompt, quick } = given
const client = new OpenAI({ baseURL: `${given.service}/v1`, apiKey: "unused" })
const subjects = JSON.stringify(given.subjects)
const image = () => Promise.all(given.pictures.map((bytes, n) => toFile(bytes, `${n}.png`)))
const edit = async (fields, options) => client.images.edit({ image: await image(), prompt, ...fields }, options)
let left

before(async () => {
  left = await given.closed((signal) => edit({ subjects, ...given.long }, { signal }))
})
after(() => given.assertCanceled(left))

test("two subjects with boxes", async () => {
  const answer = await edit({ model: "golden", subjects, n: 2, seed: 7, ...quick })
  assert.deepEqual(answer.data.map(({ seed }) => seed), [7, 8])
  answer.data.forEach(({ b64_json }) => given.assertPicture(b64_json))
  assert.equal(answer.size, "64x64")
})

test("subjects that the client flattens", async () => {
  given.assertPicture((await edit({ subjects: given.subjects, ...quick })).data[0].b64_json)
  const phrases = ["cat", "teapot"]
  const boxes = given.subjects.map(({ box }) => box.join())
  given.assertPicture((await edit({ phrases, boxes, ...quick })).data[0].b64_json)
  given.assertPicture((await edit({ phrases, boxes: given.subjects.map(({ box }) => box), ...quick })).data[0].b64_json)
})

test("generations with data URIs", async () => {
  const answer = await client.images.generate({ prompt, subjects: given.withUris, output_format: "webp", ...quick })
  assert.equal(Buffer.from(answer.data[0].b64_json, "base64").subarray(8, 12).toString(), "WEBP")
})

for (const kind of ["image_edit", "image_generation"]) {
  test(`a stream of ${kind}`, async () => {
    const options = { prompt, stream: true, partial_images: 2, size: "64x64", num_inference_steps: 20 }
    const stream =
      kind === "image_edit"
        ? await edit({ ...options, subjects })
        : await client.images.generate({ ...options, subjects: given.withUris })
    const events = []
    for await (const event of stream) events.push(event)
    const last = events.pop()
    assert.equal(last.type, `${kind}.completed`)
    given.assertPicture(last.b64_json)
    assert.equal(last.usage.total_tokens, 0)
    assert.ok(events.length >= 1)
    events.forEach((event, n) => assert.deepEqual([event.type, event.partial_image_index], [`${kind}.partial_image`, n]))
  })
}

test("errors", async () => {
  const refused = (fields, expected) =>
    assert.rejects(edit({ subjects, ...fields }), (error) => {
      assert.ok(error instanceof expected.kind, `${error}`)
      assert.deepEqual([error.status, error.param, error.code], expected.is)
      return true
    })
  await refused({ size: "63x64" }, { kind: OpenAI.UnprocessableEntityError, is: [422, "size", "invalid_input"] })
  await refused({ model: "gpt-image-1" }, { kind: OpenAI.NotFoundError, is: [404, "model", "model_not_found"] })
  await refused({ subjects: "cat" }, { kind: OpenAI.BadRequestError, is: [400, "subjects", "malformed_field"] })
  await assert.rejects(client.images.edit({ prompt, subjects }), { status: 422, param: "subjects[0].image" })
  const strange = new OpenAI({ baseURL: `${given.service}/v1`, apiKey: "unused", defaultHeaders: { Origin: "https://evil.example" } })
  await assert.rejects(strange.images.generate({ prompt }), { status: 403, type: "permission_error" })
  await assert.rejects(client.models.retrieve("gpt-image-1"), OpenAI.NotFoundError)
})

test("an error in a stream", async () => {
  const stream = await edit({ subjects, stream: true, loras: '[{"name": "other-base"}]', ...quick })
  await assert.rejects(async () => {
    for await (const event of stream) assert.fail(event.type)
  }, { code: "unfit_lora" })
})

test("a broken connection", () =>
  given.withBrokenConnection(async (baseURL) => {
    const other = client.withOptions({ baseURL })
    given.assertPicture((await other.images.edit({ image: await image(), prompt, subjects, ...quick, seed: 90 })).data[0].b64_json)
  }))

test("models", async () => {
  const names = []
  for await (const model of client.models.list()) names.push(model.id)
  assert.deepEqual(names, ["golden"])
  assert.equal((await client.models.retrieve("golden")).id, "golden")
})
