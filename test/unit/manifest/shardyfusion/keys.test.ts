import { describe, expect, test } from "vitest"
import {
  artifactKey,
  keyBelow,
  manifestKey,
  manifestKeyOf,
  parseManifestKey,
  runFolderOf,
  runRecordKey,
  shardFolder,
} from "../../../../src/manifest/shardyfusion/keys.js"

const TIME = new Date("2026-11-21T02:34:30.479Z")

test("keys are those of the format, times always with six digits of a fraction", () => {
  expect(manifestKey(TIME, "R")).toBe("manifests/2026-11-21T02:34:30.479000Z_run_id=R/manifest")
  expect(manifestKey(new Date("2026-01-02T03:04:05Z"), "R")).toContain(
    "/2026-01-02T03:04:05.000000Z_run_id=R/",
  )
  expect(artifactKey("R", "centroids.npy")).toBe("vector_meta/run_id=R/centroids.npy")
  expect(shardFolder("R", 7)).toBe("shards/run_id=R/db=00007/attempt=00")
  expect(shardFolder("R", 123_456)).toBe("shards/run_id=R/db=123456/attempt=00")
  expect(runRecordKey(TIME, "R", "f".repeat(32))).toBe(
    `runs/2026-11-21T02:34:30.479000Z_run_id=R_${"f".repeat(32)}/run.yaml`,
  )
})

test.each([
  ["manifests/2026-11-21T02:34:30.479413Z_run_id=R/manifest", { run: "R", time: TIME }],
  ["manifests/2026-11-21T02:34:30.479Z_run_id=R/manifest", undefined],
  ["manifests/2026-11-21T02:34:30.479413Z_run_id=R", undefined],
  ["manifests/2026-11-21T02:34:30.479413Z_run_id=/manifest", undefined],
  ["manifests/2026-11-31T02:34:30.479413Z_run_id=R/manifest", undefined],
  ["manifests/other/manifest", undefined],
])("%s among those that are listed", (key, expected) => {
  expect(parseManifestKey(key)).toEqual(expected)
})

test("the manifest is found below whatever root it is read from", () => {
  const key = "manifests/2026-11-21T02:34:30.479413Z_run_id=R/manifest"
  expect(manifestKeyOf(`s3://bucket/a/prefix/${key}`, "_CURRENT")).toBe(key)
  for (const url of [
    `https://bucket/${key}`,
    "s3://bucket/manifests/../../x/manifest",
    "s3://bucket/p/other",
  ])
    expect(() => manifestKeyOf(url, "_CURRENT")).toThrow(expect.objectContaining({ tag: "Corrupt" }))
})

describe("what a manifest names", () => {
  test.each([
    ["s3://b/p", "s3://b/p/shards/x", "shards/x"],
    // The reference puts a slash behind the prefix, whatever it ends with.
    ["s3://b/p/", "s3://b/p//shards/x", "/shards/x"],
    ["s3://b/p//", "s3://b/p///shards/x", "//shards/x"],
    ["s3://b/p/", "s3://b/p/vector_meta/x", "vector_meta/x"],
  ])("below %s is %s", (prefix, url, key) => {
    expect(keyBelow(prefix, url, "m")).toBe(key)
  })

  test.each([
    ["s3://b/p", "s3://b/pq/x"],
    ["s3://b/p", "s3://other/p/x"],
    ["s3://b/p", "s3://b/p/"],
    ["s3://b/p", "s3://b/p/../x"],
    ["s3://b/p", "s3://b/p//../x"],
    ["s3://b/p", "s3://b/p/x//y"],
  ])("is not below %s if it is %s", (prefix, url) => {
    expect(() => keyBelow(prefix, url, "m")).toThrow(expect.objectContaining({ tag: "Corrupt" }))
  })

  test.each([
    ["shards/run_id=R/db=00000/attempt=00", "shards/run_id=R/"],
    ["/shards/run_id=R/db=00000/attempt=00", "/shards/run_id=R/"],
    ["x", "x/"],
  ])("of the shard in %s is listed with those beside it, in %s", (folder, expected) => {
    expect(runFolderOf(folder)).toBe(expected)
  })
})
