import { expect, test } from "vitest"
import { contentKey } from "../../../src/reader/shards/shard-files.js"
import {
  type SnapshotShard,
  shardBytes,
  snapshotBytes,
  snapshotFiles,
} from "../../../src/snapshot/snapshot.js"

const shard = (folder: string, sha256: string | undefined): SnapshotShard => ({
  shard: 0,
  rows: 2,
  folder,
  files: [
    { name: "a.db", size: 3, sha256 },
    { name: "below/b.db", size: 4, sha256 },
  ],
  index: { kind: "flat" },
})
const SUM = "0".repeat(64)

test("files of a snapshot have keys below the root, and bytes", () => {
  const artifact = { key: "routing/r/centroids.npy", size: 5, sha256: SUM }
  const locator = { key: "routing/r/ids.bin", size: 6, sha256: SUM, index: { size: 1, sha256: SUM } }
  const snapshot = { shards: [shard("shards/r/0", SUM)], artifacts: [artifact], locator }
  expect(snapshotFiles(snapshot).map(({ key, size }) => [key, size])).toEqual([
    ["shards/r/0/a.db", 3],
    ["shards/r/0/below/b.db", 4],
    ["routing/r/centroids.npy", 5],
    ["routing/r/ids.bin", 6],
  ])
  expect(shardBytes(snapshot.shards[0]!)).toBe(7)
  expect(snapshotBytes(snapshot)).toBe(18)
  expect(snapshotBytes({ ...snapshot, locator: undefined })).toBe(12)
})

test("equal content has one name, whichever folder it is in; without checksums the folder counts", () => {
  expect(contentKey(shard("one", SUM))).toBe(contentKey(shard("other", SUM)))
  expect(contentKey(shard("one", SUM))).not.toBe(contentKey(shard("one", "1".repeat(64))))
  expect(contentKey(shard("one", undefined))).toBe(contentKey(shard("one", undefined)))
  expect(contentKey(shard("one", undefined))).not.toBe(contentKey(shard("other", undefined)))
})
