/** Each fault that the in-process S3 server can commit, shown to have its effect on a client, once. */
import { get as httpGet } from "node:http"
import {
  DeleteObjectsCommand,
  GetObjectCommand,
  HeadObjectCommand,
  PutObjectCommand,
  S3Client,
} from "@aws-sdk/client-s3"
import { afterEach, beforeEach, expect, test } from "vitest"
import { type Fault, type FaultMatch, type S3Server, startS3Server } from "../../servers/s3-server.js"

let server: S3Server
let client: S3Client

beforeEach(async () => {
  server = await startS3Server({ buckets: ["b"] })
  client = new S3Client({
    endpoint: server.endpoint,
    region: "us-east-1",
    credentials: { accessKeyId: "any", secretAccessKey: "any" },
    forcePathStyle: true,
    maxAttempts: 1,
    requestChecksumCalculation: "WHEN_REQUIRED",
    responseChecksumValidation: "WHEN_REQUIRED",
  })
})
afterEach(async () => {
  client.destroy()
  await server.close()
})

const put = (key: string, body: string, more: object = {}) =>
  client.send(new PutObjectCommand({ Bucket: "b", Key: key, Body: body, ...more }))
const get = (key: string, more: object = {}) =>
  client.send(new GetObjectCommand({ Bucket: "b", Key: key, ...more }))
const read = async (key: string, more: object = {}) => (await get(key, more)).Body!.transformToString()
const statusOf = (request: Promise<unknown>) =>
  request.then(
    () => "no error",
    (error) => error.$metadata?.httpStatusCode,
  )
const statuses = () => server.requests.map(({ operation, status, fault }) => [operation, status, fault])

test.each([
  [403, "AccessDenied"],
  [429, "TooManyRequests"],
  [500, "InternalError"],
  [503, "SlowDown"],
] as const)("status %i answers with an error and does nothing", async (status, code) => {
  server.fault({ operation: "PutObject" }, { do: "status", status })
  await expect(put("a", "x")).rejects.toMatchObject({ name: code, $metadata: { httpStatusCode: status } })
  expect(await statusOf(get("a"))).toBe(404)
})

test.each(["answer", "body"] as const)("stall keeps the connection and is silent: %s", async (at) => {
  await put("a", "0123456789")
  server.fault({ operation: "GetObject" }, { do: "stall", at })
  const arrived = await new Promise<string>((resolve) => {
    let text = ""
    const request = httpGet(`${server.endpoint}/b/a`, (response) => {
      response.on("error", () => {})
      response.on("data", (chunk) => {
        text += chunk
        request.setTimeout(100, () => request.destroy(new Error("silent")))
      })
      response.on("close", () => resolve(text))
    })
    request.on("error", () => resolve(text))
    if (at === "answer") request.setTimeout(500, () => request.destroy(new Error("silent")))
  })
  expect(arrived).toBe(at === "answer" ? "" : "01234")
  expect(statuses().at(-1)).toEqual(["GetObject", at === "answer" ? 0 : 200, "stall"])
})

test("status with a code of the test's choice", async () => {
  server.fault({ key: "a" }, { do: "status", status: 403, code: "ExpiredToken" })
  await expect(get("a")).rejects.toMatchObject({ name: "ExpiredToken" })
})

test("reset-before loses the request: nothing is done", async () => {
  server.fault({ operation: "PutObject" }, { do: "reset-before" })
  await expect(put("a", "x".repeat(100_000))).rejects.toMatchObject({
    code: expect.stringMatching(/ECONNRESET|EPIPE/),
  })
  expect(await statusOf(get("a"))).toBe(404)
  expect(statuses()).toEqual([
    ["PutObject", 0, "reset-before"],
    ["GetObject", 404, undefined],
  ])
})

test("reset-after loses the reply: the write is done", async () => {
  server.fault({ operation: "PutObject" }, { do: "reset-after" })
  await expect(put("a", "x", { IfNoneMatch: "*" })).rejects.toMatchObject({ code: "ECONNRESET" })
  expect(await read("a")).toBe("x")
  expect(await statusOf(put("a", "x", { IfNoneMatch: "*" }))).toBe(412)
})

/** What a client gets of a body, the length announced to it, and whether the body ended as announced. */
function download(url: string): Promise<{ announced: number; text: string; whole: boolean }> {
  return new Promise((resolve, reject) => {
    httpGet(url, { agent: false }, (response) => {
      let text = ""
      response.on("data", (chunk) => {
        text += chunk
      })
      const announced = Number(response.headers["content-length"])
      response.on("error", () => {})
      response.on("close", () => resolve({ announced, text, whole: response.complete }))
    }).on("error", reject)
  })
}

test("short-body announces all and sends half, then ends", async () => {
  await put("a", "0123456789")
  server.fault({ operation: "GetObject" }, { do: "short-body" })
  expect(await download(`${server.endpoint}/b/a`)).toEqual({ announced: 10, text: "01234", whole: false })
  expect(server.requests.at(-1)).toMatchObject({ status: 200, bytesOut: 5 })
})

test("cut-body resets the connection in the middle", async () => {
  await put("a", "0123456789")
  server.fault({ operation: "GetObject" }, { do: "cut-body" })
  await expect(read("a")).rejects.toMatchObject({ code: "ECONNRESET" })
  expect(server.requests.at(-1)).toMatchObject({ status: 200, bytesOut: 5, fault: "cut-body" })
})

test("truncate sends half in a reply that is well formed", async () => {
  await put("a", "0123456789")
  server.fault({ operation: "GetObject" }, { do: "truncate" }, 2)
  expect(await read("a")).toBe("01234")
  // A ranged reply still claims the whole range.
  const ranged = await get("a", { Range: "bytes=2-5" })
  expect(await ranged.Body!.transformToString()).toBe("23")
  expect(ranged).toMatchObject({ ContentLength: 2, ContentRange: "bytes 2-5/10" })
})

test("ignore-range answers 200 with everything", async () => {
  await put("a", "0123456789")
  server.fault({ operation: "GetObject" }, { do: "ignore-range" })
  const answer = await get("a", { Range: "bytes=2-5" })
  expect(answer.$metadata.httpStatusCode).toBe(200)
  expect(answer.ContentRange).toBeUndefined()
  expect(await answer.Body!.transformToString()).toBe("0123456789")
})

test("flip-byte changes one byte on the way, not in the store", async () => {
  await put("a", "0123456789")
  server.fault({ operation: "GetObject" }, { do: "flip-byte" })
  server.fault({ operation: "GetObject" }, { do: "flip-byte", at: 0 })
  const bytes = async () => [...(await (await get("a")).Body!.transformToByteArray())]
  const good = [...Buffer.from("0123456789")]
  expect(await bytes()).toEqual(good.with(5, good[5]! ^ 0xff))
  expect(await bytes()).toEqual(good.with(0, good[0]! ^ 0xff))
  expect(await bytes()).toEqual(good)
})

test("ignore-preconditions overwrites what it must not", async () => {
  await put("a", "first")
  server.fault({ operation: "PutObject" }, { do: "ignore-preconditions" }, 2)
  await put("a", "second", { IfNoneMatch: "*" })
  await put("a", "third", { IfMatch: '"0"' })
  expect(await read("a")).toBe("third")
  expect(await statusOf(put("a", "fourth", { IfNoneMatch: "*" }))).toBe(412)
})

test("refuse-delete keeps the keys that match and reports them", async () => {
  await Promise.all([put("a1", "1"), put("b1", "1")])
  server.fault({ operation: "DeleteObjects" }, { do: "refuse-delete", keys: /^a/ })
  const answer = await client.send(
    new DeleteObjectsCommand({ Bucket: "b", Delete: { Objects: [{ Key: "a1" }, { Key: "b1" }] } }),
  )
  expect(answer.Deleted?.map((one) => one.Key)).toEqual(["b1"])
  expect(answer.Errors).toMatchObject([{ Key: "a1", Code: "AccessDenied" }])
  expect(await statusOf(client.send(new HeadObjectCommand({ Bucket: "b", Key: "a1" })))).toBe("no error")
})

test("delay holds one request back while others pass", async () => {
  await put("slow", "1")
  await put("fast", "2")
  server.fault({ key: "slow" }, { do: "delay", ms: 200 })
  const order: string[] = []
  await Promise.all(["slow", "fast"].map((key) => read(key).then(() => order.push(key))))
  expect(order).toEqual(["fast", "slow"])
})

test("delay ends, and nothing is done, when the client leaves", async () => {
  server.fault({ operation: "PutObject" }, { do: "delay", ms: 60_000 })
  const leaving = new AbortController()
  const request = client.send(new PutObjectCommand({ Bucket: "b", Key: "a", Body: "x" }), {
    abortSignal: leaving.signal,
  })
  const outcome = expect(request).rejects.toMatchObject({ name: "AbortError" })
  await expect.poll(() => server.requests.length).toBe(1)
  leaving.abort()
  await outcome
  expect(await statusOf(get("a"))).toBe(404)
  expect(server.requests[0]).toMatchObject({ operation: "PutObject", status: 0, fault: "delay" })
})

test("close ends requests that are held back", async () => {
  server.fault(() => true, { do: "delay", ms: 60_000 })
  const outcome = expect(get("a")).rejects.toMatchObject({ code: "ECONNRESET" })
  await expect.poll(() => server.requests.length).toBe(1)
  await server.close()
  await outcome
})

test.each<[string, FaultMatch, string[]]>([
  ["an operation", { operation: "GetObject" }, ["a", "b"]],
  ["a method", { method: "GET" }, ["a", "b"]],
  ["a key", { key: "a" }, ["a"]],
  ["a pattern", { key: /^b/ }, ["b"]],
  ["several facts", { operation: "GetObject", key: "b" }, ["b"]],
  ["facts that no request has", { operation: "PutObject", key: "a" }, []],
  ["a function of the facts", ({ range, bucket }) => bucket === "b" && range === undefined, ["a", "b"]],
])("a fault matches %s", async (_name, match, expected) => {
  server.fault(match, { do: "status", status: 503 }, Number.POSITIVE_INFINITY)
  const hit: string[] = []
  for (const key of ["a", "b"]) if ((await statusOf(get(key))) === 503) hit.push(key)
  expect(hit).toEqual(expected)
})

test("faults are committed as often as asked, in the order given, until cleared", async () => {
  const fail = (status: 500 | 503): Fault => ({ do: "status", status })
  server.fault({ key: "a" }, fail(503), 2)
  server.fault({ key: "a" }, fail(500))
  const seen = []
  for (let i = 0; i < 4; i++) seen.push(await statusOf(get("a")))
  expect(seen).toEqual([503, 503, 500, 404])
  server.fault({ key: "a" }, fail(503), 5)
  server.clearFaults()
  expect(await statusOf(get("a"))).toBe(404)
})

test("requests are recorded with range, status and bytes", async () => {
  await put("a", "0123456789")
  await read("a", { Range: "bytes=2-5" })
  await client.send(new HeadObjectCommand({ Bucket: "b", Key: "a" }))
  const about = { bucket: "b", key: "a", range: undefined, fault: undefined }
  expect(server.requests).toEqual([
    { ...about, operation: "PutObject", method: "PUT", status: 200, bytesIn: 10, bytesOut: 0 },
    {
      ...about,
      operation: "GetObject",
      method: "GET",
      range: "bytes=2-5",
      status: 206,
      bytesIn: 0,
      bytesOut: 4,
    },
    { ...about, operation: "HeadObject", method: "HEAD", status: 200, bytesIn: 0, bytesOut: 0 },
  ])
})
