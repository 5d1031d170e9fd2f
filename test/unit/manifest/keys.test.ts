import fc from "fast-check"
import { describe, expect, it } from "vitest"
import {
  isSafeFileName,
  manifestKey,
  newRunId,
  POINTER_KEY,
  parseKey,
  probeKey,
  routingKey,
  runKey,
  shardFolder,
} from "../../../src/manifest/keys.js"

const run = fc.stringMatching(/^[0-9a-z]{12}$/)
const fileName = fc.stringMatching(/^[A-Za-z0-9_-]{1,12}(\.[a-z0-9]{1,5})?$/)

describe("keys", () => {
  it("are parsed to what they were built from", () => {
    fc.assert(
      fc.property(
        run,
        fc.date({ min: new Date("1970-01-01"), max: new Date("9999-12-31"), noInvalidDate: true }),
        fc.nat(10_000_000),
        fc.nat(1000),
        fc.array(fileName, { minLength: 1, maxLength: 3 }),
        (run, time, shard, attempt, path) => {
          const file = path.join("/")
          expect(parseKey(manifestKey(time, run))).toEqual({ kind: "manifest", time, run })
          expect(parseKey(runKey(run))).toEqual({ kind: "run", run })
          expect(parseKey(routingKey(run, path[0]!))).toEqual({ kind: "routing", run, file: path[0] })
          expect(parseKey(probeKey(run, file))).toEqual({ kind: "probe", id: run, file })
          const folder = shardFolder(run, shard, attempt)
          expect(parseKey(`${folder}/${file}`)).toEqual({ kind: "shard", run, shard, attempt, file })
        },
      ),
    )
    expect(parseKey(POINTER_KEY)).toEqual({ kind: "pointer" })
  })

  it("sort by time", () => {
    const earlier = manifestKey(new Date("2026-01-02T03:04:05.006Z"), "zzzzzzzzzzzz")
    const later = manifestKey(new Date("2026-01-02T03:04:05.007Z"), "000000000000")
    expect(earlier).toBe("manifests/20260102T030405.006Z-zzzzzzzzzzzz.json")
    expect(earlier < later).toBe(true)
  })

  it.each([
    "",
    "_CURRENT2",
    "x/_CURRENT",
    "manifests/20260102T030405.006Z-short.json",
    "manifests/20261302T030405.006Z-000000000000.json",
    "manifests/20260102T030405.006Z-000000000000.json.bak",
    "runs/000000000000.yaml",
    "routing/000000000000/a/b.npy",
    "routing/000000000000/..",
    "shards/000000000000/00001/0/",
    "shards/000000000000/1/0/shard.db",
    "shards/000000000000/000001/0/shard.db",
    "shards/000000000000/00001/00/shard.db",
    "shards/000000000000/00001/0/../../x",
    "shards/000000000000/00001/0//etc/passwd",
    "probes/000000000000/",
    "probes/short/file",
    "probes/000000000000/a/../b",
    "somebody/else.txt",
  ])("that are not ours are not recognised: %j", (key) => {
    expect(parseKey(key)).toBeUndefined()
  })

  it("accept only file names that stay below their folder", () => {
    expect(isSafeFileName("shard.db")).toBe(true)
    expect(isSafeFileName("vectors.lance/data/a b.lance")).toBe(true)
    for (const name of [
      "",
      "/a",
      "a/",
      "a//b",
      ".",
      "..",
      "a/../b",
      "a/.",
      "a\\b",
      "a\0b",
      "a\nb",
      "x".repeat(1025),
    ]) {
      expect(isSafeFileName(name), JSON.stringify(name)).toBe(false)
    }
  })

  it("never repeat a run id", () => {
    const ids = new Set(Array.from({ length: 10_000 }, newRunId))
    expect(ids.size).toBe(10_000)
    for (const id of ids) expect(id).toMatch(/^[0-9a-z]{12}$/)
  })
})
