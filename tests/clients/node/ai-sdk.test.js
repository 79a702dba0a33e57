// The AI SDK with its provider for services that speak OpenAI's interface.
import { strict as assert } from "node:assert"
import { after, before, test } from "node:test"
import { createOpenAICompatible } from "@ai-sdk/openai-compatible"
import { APICallError, generateImage } from "ai"
import * as given from "./support.js"

const provider = (baseURL) => createOpenAICompatible({ name: "msd", baseURL, apiKey: "unused" })
const model = provider(`${given.service}/v1`).imageModel("golden")
const { num_inference_steps } = given.quick
const subjects = JSON.stringify(given.subjects)
const make = (fields, options) =>
  generateImage({
    model,
    prompt: { text: given.prompt, images: given.pictures },
    size: "64x64",
    providerOptions: { msd: { subjects, num_inference_steps, ...fields } },
    ...options,
  })
let left

before(async () => {
  const { size, ...fields } = given.long
  left = await given.closed((abortSignal) => make(fields, { size, abortSignal }))
})
after(() => given.assertCanceled(left))

test("two subjects with boxes", async () => {
  const { images } = await make({ seed: 7 }, { n: 2 })
  assert.equal(images.length, 2)
  images.forEach(({ base64 }) => given.assertPicture(base64))
})

test("phrases and boxes, of one subject too", async () => {
  const boxes = given.subjects.map(({ box }) => box.join())
  given.assertPicture((await make({ subjects: undefined, phrases: ["cat", "teapot"], boxes })).image.base64)
  const one = { prompt: { text: "a cat", images: given.pictures.slice(0, 1) } }
  given.assertPicture((await make({ subjects: undefined, phrases: ["cat"], boxes: boxes.slice(0, 1) }, one)).image.base64)
})

test("pictures and a prompt alone", async () => {
  given.assertPicture((await make({ subjects: undefined })).image.base64)
})

test("a text prompt, with data URIs", async () => {
  const options = { prompt: given.prompt, providerOptions: { msd: { subjects: given.withUris, num_inference_steps } } }
  given.assertPicture((await make({}, options)).image.base64)
})

test("errors", async () => {
  const refused = (fields, status, words, options) =>
    assert.rejects(make(fields, { maxRetries: 0, ...options }), (error) => {
      assert.ok(APICallError.isInstance(error), `${error}`)
      assert.equal(error.statusCode, status)
      assert.match(error.message, words)
      return true
    })
  await refused({ subjects: given.subjects }, 400, /\[object Object\].*JSON\.stringify/)
  await refused({}, 422, /multiple of 8/, { size: "63x64" })
  await refused({}, 404, /no model 'gpt-image-1'/, { model: provider(`${given.service}/v1`).imageModel("gpt-image-1") })
})

test("a broken connection", () =>
  given.withBrokenConnection(async (baseURL) => {
    given.assertPicture((await make({ seed: 91 }, { model: provider(baseURL).imageModel("golden") })).image.base64)
  }))
