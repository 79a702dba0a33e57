// The live service, what is sent to it, and a connection that breaks.
import { strict as assert } from "node:assert"
import { readFileSync } from "node:fs"
import { createServer, connect } from "node:net"

export const service = process.env.MSD_URL
export const pictures = ["cat", "teapot"].map((name) => readFileSync(`${process.env.MSD_PICTURES}/${name}.png`))
export const prompt = "a cat and a teapot on the beach"
export const subjects = [
  { phrase: "cat", box: [0.05, 0.3, 0.45, 0.8] },
  { phrase: "teapot", box: [0.55, 0.3, 0.95, 0.8] },
]
export const quick = { size: "64x64", num_inference_steps: 2 }
export const long = { size: "512x512", num_inference_steps: 150 }
export const withUris = subjects.map((subject, n) => ({
  ...subject,
  image: `data:image/png;base64,${pictures[n].toString("base64")}`,
}))

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

export function assertPicture(base64) {
  assert.equal(Buffer.from(base64, "base64").subarray(1, 4).toString(), "PNG")
}

async function get(path) {
  return (await fetch(service + path)).json()
}

// Ids of all jobs, newest first.
export async function jobs() {
  return (await get("/jobs?limit=100")).jobs.map(({ id }) => id)
}

// Ids of the jobs that are newer than these.
async function since(before) {
  return (await jobs()).filter((job) => !before.includes(job))
}

async function until(condition, what) {
  for (let tries = 0; tries < 600; tries++) {
    const found = await condition()
    if (found) return found
    await sleep(100)
  }
  assert.fail(`waited in vain for ${what}`)
}

// Starts a long job and closes its connection; returns the job's id.
export async function closed(start) {
  const before = await jobs()
  const controller = new AbortController()
  const refusal = assert.rejects(start(controller.signal))
  const [id] = await until(async () => {
    const now = await since(before)
    return now.length && now
  }, "the job")
  controller.abort()
  await refusal
  return id
}

export async function assertCanceled(id) {
  const end = await until(async () => {
    const { status } = await get(`/jobs/${id}`)
    return ["queued", "running"].includes(status) ? null : status
  }, "the end of a job whose connection was closed")
  assert.equal(end, "canceled")
}

// Hands everything on to the service, but breaks the connection of the first request when its job is there.
export async function withBrokenConnection(use) {
  const before = await jobs()
  const { hostname, port } = new URL(service)
  let isFirst = true
  const server = createServer((client) => {
    const upstream = connect(Number(port), hostname)
    for (const [from, to] of [[client, upstream], [upstream, client]]) {
      from.pipe(to)
      from.on("error", () => to.destroy())
      from.on("close", () => to.destroy())
    }
    if (isFirst) {
      isFirst = false
      until(async () => (await since(before)).length > 0, "the job").then(() => client.destroy())
    }
  })
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve))
  try {
    await use(`http://127.0.0.1:${server.address().port}/v1`)
  } finally {
    server.close()
  }
  assert.equal((await since(before)).length, 1, "the request ran once")
  assert.equal(isFirst, false)
}
