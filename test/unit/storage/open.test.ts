import { randomUUID } from "node:crypto"
import { describe, expect, it } from "vitest"
import { isVecsnapError } from "../../../src/errors.js"
import { openStore, parseStoreUrl } from "../../../src/storage/open.js"
import { createCounts } from "../../../src/storage/with-counting.js"

describe("parseStoreUrl", () => {
  it.each([
    ["s3://bucket", { kind: "s3", bucket: "bucket", prefix: "" }],
    ["s3://bucket/", { kind: "s3", bucket: "bucket", prefix: "" }],
    ["s3://my.bucket-1/a/b c%20/é/", { kind: "s3", bucket: "my.bucket-1", prefix: "a/b c%20/é" }],
    ["file:///data/a%20b", { kind: "file", directory: "/data/a b" }],
    ["file://localhost/data", { kind: "file", directory: "/data" }],
    ["./data", { kind: "file", directory: "./data" }],
    ["/data/with:colon", { kind: "file", directory: "/data/with:colon" }],
    ["memory://name", { kind: "memory", name: "name" }],
    ["memory://a/b/", { kind: "memory", name: "a/b" }],
  ])("reads %s", (url, location) => {
    expect(parseStoreUrl(url)).toEqual(location)
  })

  it.each([
    "",
    "http://host/path",
    "gs://bucket",
    "s3:bucket",
    "s3://",
    "s3:///prefix",
    "s3://bucket/a//b",
    "s3://bucket/../other",
    "s3://bucket:9000/prefix",
    "file://host/data",
    "memory://",
  ])("refuses %s", (url) => {
    expect(() => parseStoreUrl(url)).toThrow(expect.objectContaining({ tag: "InvalidInput" }))
  })

  it.each([
    "s3://key:hunter2@bucket/prefix",
    "s3://bucket/prefix?secret=hunter2",
    "s3://bucket/prefix#hunter2",
    "file://user:hunter2@host/data",
    "memory://name?token=hunter2",
    "https://user:hunter2@host/bucket",
  ])("refuses %s without repeating the secret", (url) => {
    try {
      parseStoreUrl(url)
      expect.unreachable()
    } catch (error) {
      expect(isVecsnapError(error, "InvalidInput")).toBe(true)
      expect(JSON.stringify([String(error), error])).not.toContain("hunter2")
    }
  })
})

describe("openStore", () => {
  it("names the store as the user did, without a trailing slash", () => {
    for (const url of ["s3://bucket/prefix", "memory://name", "file:///tmp/x", "./relative"]) {
      expect(openStore(url).url).toBe(url)
      expect(openStore(`${url}/`).url).toBe(url)
    }
  })

  it("counts attempts where asked to", async () => {
    const counts = createCounts()
    const store = openStore(`memory://${randomUUID()}`, { counts })
    await store.put("key", new Uint8Array(3))
    await store.get("key")
    await store.get("key", { range: { start: 0, end: 1 } })
    expect(counts).toMatchObject({ put: 1, get: 2, bytesWritten: 3, bytesRead: 4, failed: 0 })
  })
})
