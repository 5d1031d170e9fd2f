import { randomUUID } from "node:crypto"
import { homedir } from "node:os"
import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { isVecsnapError } from "../../../src/errors.js"
import { openSnapshot } from "../../../src/reader/reader.js"
import { parseStoreUrl } from "../../../src/storage/location.js"

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

describe("parseStoreUrl, of what another program would have understood", () => {
  const refusal = (url: string, platform: NodeJS.Platform = "linux"): string => {
    try {
      parseStoreUrl(url, platform)
    } catch (error) {
      if (isVecsnapError(error, "InvalidInput")) return error.message
      throw error
    }
    return "accepted"
  }

  it.each([
    ["~", "write it in full"],
    ["~/snapshots", `write it in full: ${join(homedir(), "snapshots")}`],
    ["~ada/snapshots", "write it in full"],
    [" s3://bucket/prefix", "begins or ends with white space"],
    ["s3://bucket/prefix\n", "begins or ends with white space"],
    ["./snapshots ", "begins or ends with white space"],
    ["\u00a0s3://bucket", "begins or ends with white space"],
    ['"s3://bucket/prefix"', "quotation marks"],
    ["'./snapshots'", "quotation marks"],
    ["$HOME/snapshots", "a variable that was not replaced"],
    // biome-ignore lint/suspicious/noTemplateCurlyInString: what a shell would have replaced
    ["${BUCKET}/words", "a variable that was not replaced"],
    ["arn:aws:s3:::bucket/prefix", "write s3://bucket/prefix"],
    ["arn:aws:s3:eu-central-1:1234:accesspoint/name", "s3://bucket/prefix"],
    ["http://host/path", "an endpoint of its own is an option"],
    ["https://bucket.s3.amazonaws.com/prefix", "an endpoint of its own is an option"],
    ["gs://bucket/prefix", "s3://, file:// or memory://"],
    ["s3a://bucket/prefix", "write s3://bucket/prefix"],
    ["s3n://bucket", "write s3://bucket"],
    ["S3//bucket/prefix", "write s3://bucket/prefix"],
    ["s3/bucket", "accepted"],
    ["az:container", "./az:container"],
    ["file:relative", "file:///directory"],
    ["file://./relative", "file:///directory"],
    ["C:\\snapshots", "a path of Windows"],
    ["c:/snapshots", "a path of Windows"],
  ])("%j: %s", (url, expected) => {
    expect(refusal(url)).toContain(expected)
  })

  it("takes the paths of Windows there, and names with a colon or a tilde where they can't be anything else", () => {
    for (const path of ["C:\\snapshots", "c:/snapshots", "\\\\server\\share"])
      expect(parseStoreUrl(path, "win32")).toEqual({ kind: "file", directory: path })
    for (const path of ["./az:container", "./~", "a~b", "/data/~", "../s3://x", "dir/$x"])
      expect(parseStoreUrl(path, "linux")).toEqual({ kind: "file", directory: path })
  })

  it("holds for every directory that is made where it does not exist", async () => {
    await expect(openSnapshot(`memory://${randomUUID()}`, { cacheDir: "~/cache" })).rejects.toMatchObject({
      tag: "InvalidInput",
      message: expect.stringMatching(/option cacheDir .*~\/cache.* write it in full/),
    })
    await expect(openSnapshot(`memory://${randomUUID()}`, { cacheDir: "s3://bucket" })).rejects.toMatchObject(
      {
        tag: "InvalidInput",
        message: expect.stringContaining("option cacheDir"),
      },
    )
  })
})
