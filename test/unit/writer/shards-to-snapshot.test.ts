import { describe, expect, it } from "vitest"
import { decodeManifest, encodeManifest } from "../../../src/manifest/codec.js"
import { manifestKey, shardFolder } from "../../../src/manifest/keys.js"
import type { ShardEntry } from "../../../src/manifest/manifest.js"
import { VERSION } from "../../../src/version.js"
import {
  manifestOf,
  type SnapshotParts,
  type SnapshotTarget,
} from "../../../src/writer/shards-to-snapshot.js"

const RUN = "k3v9x2m4q7ab"
const SHA = "a".repeat(64)
const startedAt = new Date("2026-01-02T03:04:05Z")
const createdAt = new Date("2026-01-02T03:14:05Z")

const entryOf = (shard: number, rows: number): ShardEntry => ({
  shard,
  rows,
  folder: shardFolder(RUN, shard, 0),
  files: [{ name: "shard.db", size: 4096, sha256: SHA }],
  index: { kind: "flat" },
  fingerprint: SHA,
})

const parts: SnapshotParts = {
  schema: { dim: 2, metric: "l2", id: { type: "string", wide: false }, fields: [] },
  sharding: { strategy: "explicit", shards: 3, options: {} },
  arrays: {},
  shards: [entryOf(0, 4), entryOf(2, 6)],
  rows: 10,
  locator: undefined,
  codes: undefined,
  recall: undefined,
  skippedRows: 1,
  duplicateRows: 2,
  norms: { p05: 1, median: 1, p95: 1, zeroRows: 0, rows: 12 },
}

const target = {
  run: { run: RUN, startedAt, base: undefined },
  options: { backend: "sqlite-vec", model: "m", custom: { team: "search" } },
  clock: { timingsMs: () => ({ shards: 5, total: 9 }) },
} as unknown as SnapshotTarget

const stored = { createdAt, artifacts: [], locator: undefined, codes: undefined }

describe("the manifest of a build", () => {
  it("says all that the parts, the run and the options say, and can be read back", () => {
    const manifest = manifestOf(target, parts, stored)
    expect(manifest).toEqual({
      run: RUN,
      createdAt,
      base: undefined,
      basePublication: undefined,
      schema: { ...parts.schema, model: "m" },
      sharding: parts.sharding,
      artifacts: [],
      locator: undefined,
      backend: "sqlite-vec",
      shards: parts.shards,
      rows: 10,
      copies: undefined,
      recall: undefined,
      build: {
        tool: `vecsnap ${VERSION}`,
        startedAt,
        skippedRows: 1,
        duplicateRows: 2,
        timingsMs: { shards: 5, total: 9 },
        norms: parts.norms,
      },
      custom: { team: "search" },
    })
    expect(decodeManifest(encodeManifest(manifest), manifestKey(createdAt, RUN))).toEqual(manifest)
  })

  it("names the object of its codebook", () => {
    const codes = { key: "routing/a3v9x2m4q7ab/codes.npz", size: 9, sha256: SHA }
    expect(manifestOf(target, parts, { ...stored, codes }).codes).toEqual(codes)
  })

  it("counts as copies what shards hold beyond the rows", () => {
    expect(manifestOf(target, { ...parts, rows: 7 }, stored).copies).toBe(3)
  })

  it("names the snapshot that was live when the run started", () => {
    const base = { manifest: { run: "a3v9x2m4q7ab" }, pointer: { number: 17 } }
    const run = { ...target.run, base } as unknown as SnapshotTarget["run"]
    expect(manifestOf({ ...target, run }, parts, stored)).toMatchObject({
      base: "a3v9x2m4q7ab",
      basePublication: 17,
    })
  })
})
