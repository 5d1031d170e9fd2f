/** A snapshot does not depend on the order in which rows are read, nor on files and batches. */
import { writeFile } from "node:fs/promises"
import { join } from "node:path"
import fc from "fast-check"
import { describe, expect, it } from "vitest"
import {
  buildSnapshot,
  openSource,
  openStore,
  readLive,
  type ShardingOptions,
  type VectorRecord,
} from "../../src/index.js"
import { makeRecords, seededRandom } from "../support/records.js"
import { ALL } from "../support/scope.js"
import { withTempDir } from "../support/stores.js"

const ROWS = 2400
const DIM = 8
const random = seededRandom(5)
const RECORDS: readonly VectorRecord[] = makeRecords(ROWS, { dim: DIM }).map(({ id, vector }) => ({
  id,
  vector: Float32Array.from(vector, (value) => value + random() - 0.5),
}))
const CLUSTER = { strategy: "cluster", shards: 6, sampleRows: 600 } as const

let roots = 0

/** All that a snapshot says of what is in it, without names of files and times. */
async function snapshotOf(
  input: Parameters<typeof buildSnapshot>[0],
  tempDir: string,
  sharding: ShardingOptions,
): Promise<unknown> {
  const to = `memory://order-${process.pid}-${roots++}`
  // Of this memory limit nothing is left for a sample beyond `sampleRows`.
  await buildSnapshot(input, { to, tempDir, sharding, parallelism: 1, memoryLimit: 2 ** 27 })
  const { manifest } = await readLive(openStore(to))
  const { shards, artifacts, locator, recall, build, rows, schema } = manifest
  return {
    rows,
    schema,
    recall,
    norms: build.norms,
    locator: locator?.sha256,
    artifacts: artifacts.map(({ key, sha256 }) => [key.split("/").at(-1), sha256]),
    shards: shards.map(({ shard, rows, fingerprint }) => ({ shard, rows, fingerprint })),
  }
}

/** The records as files of lines, cut at these places. */
async function filesOf(dir: string, records: readonly VectorRecord[], cuts: readonly number[]) {
  const bounds = [0, ...new Set(cuts.toSorted((a, b) => a - b)), records.length]
  const paths: string[] = []
  for (const [i, from] of bounds.slice(0, -1).entries()) {
    const lines = records
      .slice(from, bounds[i + 1])
      .map(({ id, vector }) => `${JSON.stringify({ id, vector: Array.from(vector) })}\n`)
    paths.push(join(dir, `part-${roots}-${i}.jsonl`))
    await writeFile(paths.at(-1)!, lines.join(""))
  }
  return openSource(paths)
}

describe("the order of rows", () => {
  it.each<[string, ShardingOptions]>([
    ["fast, of a sample, with copies", { ...CLUSTER, layout: "fast", replication: { budget: 1.2 } }],
    ["plain", { ...CLUSTER, layout: "plain" }],
    ["affinity, with copies", { ...CLUSTER, layout: "affinity" }],
    ["lsh", { strategy: "lsh", shards: 8 }],
  ])("changes nothing of a snapshot, nor do files and batches: %s", (_, sharding) =>
    withTempDir(async (dir) => {
      const expected = await snapshotOf(RECORDS, dir, sharding)
      expect(expected).toMatchObject({ rows: ROWS, recall: { queries: { count: 120 } } })
      const orders = fc.shuffledSubarray([...RECORDS], { minLength: ROWS })
      const cuts = fc.array(fc.integer({ min: 1, max: ROWS - 1 }), { maxLength: 3 })
      await fc.assert(
        fc.asyncProperty(orders, cuts, async (records, places) => {
          expect(await snapshotOf(await filesOf(dir, records, places), dir, sharding)).toEqual(expected)
        }),
        { numRuns: ALL ? 5 : 1, endOnFailure: true },
      )
    }),
  )
})
