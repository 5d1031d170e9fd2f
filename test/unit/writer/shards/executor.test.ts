import { readdir } from "node:fs/promises"
import { join } from "node:path"
import { describe, expect, it } from "vitest"
import type { RecordBatch } from "../../../../src/records.js"
import type { BackendName, IndexDescription, ShardSpec } from "../../../../src/shards/backend.js"
import { backendByName } from "../../../../src/shards/registry.js"
import { appendBlocks } from "../../../../src/writer/rows/batches.js"
import { buildShards } from "../../../../src/writer/shards/executor.js"
import type { ShardTask } from "../../../../src/writer/shards/task.js"
import { withTempDir } from "../../../support/stores.js"

const SPEC: ShardSpec = { dim: 16, metric: "l2", id: { type: "string", wide: false }, fields: [] }

const batch = (rows: number): RecordBatch => ({
  rows,
  dim: SPEC.dim,
  ids: { type: "string", values: Array.from({ length: rows }, (_, row) => `r${row}`) },
  vectors: Float32Array.from({ length: rows * SPEC.dim }, (_, i) => Math.sin(i)),
  fields: {},
  payloads: Array.from({ length: rows }, () => null),
  origin: { file: "records", unit: "row", rows: Float64Array.from({ length: rows }, (_, row) => row) },
})

async function shardTask(dir: string, backend: BackendName, shard: number, rows: number): Promise<ShardTask> {
  const spill = join(dir, `spill-${shard}`)
  await appendBlocks(spill, [batch(rows)])
  const drop = new Set<number>()
  return {
    shard,
    spill,
    drop,
    spec: SPEC,
    backend,
    dir: join(dir, `shard-${shard}`),
    reusable: undefined,
    queries: undefined,
  }
}

describe("buildShards", () => {
  it.each(["sqlite-vec", "lancedb"] as const)(
    "stopped while %s shards are built begins no other, and leaves when those that were begun are whole",
    (backend) =>
      withTempDir(async (dir) => {
        // The first is done, and aborts, long before the second.
        const sizes = [1, 20_000, 10, 10, 10, 10]
        const tasks = await Promise.all(sizes.map((rows, shard) => shardTask(dir, backend, shard, rows)))
        const controller = new AbortController()
        const built: { shard: number; index: IndexDescription }[] = []
        const building = buildShards(
          tasks,
          async ({ shard }, { built: result }) => {
            built.push({ shard, index: result!.index })
            controller.abort()
          },
          { parallelism: 2, signal: controller.signal },
        )
        await expect(building).rejects.toMatchObject({ tag: "Aborted" })
        expect(built.map(({ shard }) => shard)).toEqual([0])

        const names = (await readdir(dir)).filter((name) => name.startsWith("shard-")).sort()
        expect(names).toContain("shard-1")
        expect(names.length).toBeLessThanOrEqual(3)
        const pool = backendByName(backend).createPool({ workers: 1 })
        for (const name of names) {
          const reader = await pool.open(join(dir, name), SPEC, built[0]!.index)
          expect(reader.rows, name).toBe(sizes[Number(name.slice("shard-".length))])
          await reader.close()
        }
        await pool.close()
      }),
  )
})
