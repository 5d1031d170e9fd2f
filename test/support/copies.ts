/** What a snapshot with copies holds, by reading all of it. */
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { expect } from "vitest"
import { type Id, type Manifest, openStore } from "../../src/index.js"
import { stringifyJson } from "../../src/json.js"
import { POOL_OPTIONS } from "../../src/maintenance/shard-reading.js"
import {
  blockRange,
  blocksWith,
  decodeLocatorIndex,
  hashOfId,
  shardsWith,
} from "../../src/manifest/locator.js"
import { backendByName } from "../../src/shards/registry.js"
import { withShard } from "../../src/shards/with-shard.js"
import { download } from "../../src/snapshot/content.js"
import { shardFiles, shardSpecOf } from "../../src/snapshot/snapshot.js"
import { withDirectory } from "../../src/storage/files.js"

export interface RowPlaces {
  /** Shards that hold it, by rising number. */
  readonly shards: number[]
  /** JSON text of the payload in each. */
  readonly payloads: string[]
  /** Shards that the locator names. */
  readonly located: readonly number[]
}

/** Every row of a snapshot, by id; vectors of copies must be equal, or an expectation fails. */
export async function readPlaces(to: string, manifest: Manifest): Promise<ReadonlyMap<Id, RowPlaces>> {
  const store = openStore(to)
  const locator = await store.get(manifest.locator!.key)
  const bytes = locator!.body
  const index = decodeLocatorIndex(
    bytes.subarray(bytes.length - manifest.locator!.index.size),
    manifest.locator!,
    manifest.rows,
  )
  const locate = (id: Id): number[] =>
    blocksWith(index, hashOfId(id)!).flatMap((block) => {
      const { start, end } = blockRange(index, block)
      return [...shardsWith(bytes.subarray(start, end), hashOfId(id)!)]
    })
  const rows = new Map<Id, RowPlaces & { readonly vector: Float32Array }>()
  const dir = await mkdtemp(join(tmpdir(), "vecsnap-copies-"))
  const pool = backendByName(manifest.backend).createPool(POOL_OPTIONS)
  try {
    for (const entry of manifest.shards) {
      const copy = join(dir, String(entry.shard))
      await withDirectory(copy, async () => {
        for (const file of shardFiles(entry)) await download(store, file, join(copy, file.name), {})
        await withShard(pool, copy, entry, shardSpecOf(manifest.schema), async (reader) => {
          for await (const batch of reader.records()) {
            for (const { id, vector, payload } of batch) {
              const row = rows.get(id) ?? { shards: [], payloads: [], located: locate(id), vector }
              expect(vector).toEqual(row.vector)
              row.shards.push(entry.shard)
              row.payloads.push(stringifyJson(payload))
              rows.set(id, row)
            }
          }
        })
      })
    }
  } finally {
    await pool.close()
    await rm(dir, { recursive: true, force: true })
  }
  return rows
}
