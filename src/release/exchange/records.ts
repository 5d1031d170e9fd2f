/** The rows of a snapshot, whatever its format, read shard by shard. */
import { mkdir, rm } from "node:fs/promises"
import { join } from "node:path"
import { throwIfAborted } from "../../errors.js"
import { stringifyJson } from "../../json.js"
import type { FieldValue, StoredRecord } from "../../records.js"
import type { ShardPool, ShardRows } from "../../shards/backend.js"
import { createShardPool, type TrustOptions } from "../../shards/pools.js"
import { openerOf } from "../../shards/registry.js"
import { withShard } from "../../shards/with-shard.js"
import { download } from "../../snapshot/content.js"
import {
  neededFiles,
  type Snapshot,
  type SnapshotShard,
  shardFiles,
  shardSpecOf,
} from "../../snapshot/snapshot.js"
import type { CallOptions, ObjectStore } from "../../storage/store.js"

export interface ShardRecords {
  /** The records of a shard, in order of id, some at a time. What is thrown names the shard. */
  read(entry: SnapshotShard): AsyncGenerator<readonly StoredRecord[]>
  close(): Promise<void>
}

/** @param dir an empty directory, where one shard at a time is downloaded to */
export function openShardRecords(
  store: ObjectStore,
  snapshot: Snapshot,
  dir: string,
  { signal, ...trust }: CallOptions & TrustOptions,
): ShardRecords {
  const spec = shardSpecOf(snapshot.schema)
  const pool: ShardPool = createShardPool(openerOf(snapshot), { workers: 1, memoryBytes: 0 }, trust)
  return {
    async *read(entry) {
      const folder = join(dir, String(entry.shard))
      await mkdir(folder, { recursive: true })
      try {
        for (const file of shardFiles({ ...entry, files: neededFiles(entry) }))
          await download(store, file, join(folder, file.name), { signal })
        // A generator cannot yield from within a callback: batches are handed over one by one.
        yield* handedOver<readonly StoredRecord[]>(async (give) => {
          await withShard(pool, folder, entry, spec, async (reader) => {
            for await (const batch of reader.records()) {
              throwIfAborted(signal)
              await give(batch)
            }
          })
        })
      } finally {
        await rm(folder, { recursive: true, force: true })
      }
    },
    close: () => pool.close(),
  }
}

/** What `work` gives, one after the other; it goes on when the last one was taken. */
async function* handedOver<T>(work: (give: (value: T) => Promise<void>) => Promise<void>): AsyncGenerator<T> {
  const stopped = new Error("nobody takes what is given")
  let offered:
    | { readonly value: T; readonly taken: () => void; readonly left: (error: Error) => void }
    | undefined
  let wake = (): void => {}
  let ended = false
  const running = work(
    (value) =>
      new Promise<void>((taken, left) => {
        offered = { value, taken, left }
        wake()
      }),
  ).finally(() => {
    ended = true
    wake()
  })
  // It is awaited below; until then nobody else listens.
  running.catch(() => {})
  try {
    for (;;) {
      if (offered === undefined && !ended) await new Promise<void>((resolve) => (wake = resolve))
      if (offered === undefined) break
      const { value, taken } = offered
      // Still offered while it is looked at: who stops there leaves it.
      yield value
      offered = undefined
      taken()
    }
    await running
  } finally {
    offered?.left(stopped)
    await running.catch(() => {})
  }
}

/** All rows of a shard as columns. */
export async function readShardRows(
  records: ShardRecords,
  entry: SnapshotShard,
  { dim, id, fields }: Snapshot["schema"],
): Promise<ShardRows> {
  const ids: (string | bigint)[] = []
  const vectors = new Float32Array(entry.rows * dim)
  const columns = fields.map((): FieldValue[] => [])
  const payloads: (string | null)[] = []
  for await (const batch of records.read(entry)) {
    for (const record of batch) {
      vectors.set(record.vector, ids.length * dim)
      ids.push(typeof record.id === "number" ? BigInt(record.id) : record.id)
      fields.forEach(({ name }, i) => void columns[i]!.push(record.fields[name] ?? null))
      payloads.push(record.payload === null ? null : stringifyJson(record.payload))
    }
  }
  return {
    rows: ids.length,
    ids:
      id.type === "string"
        ? { type: "string", values: ids as string[] }
        : { type: "int64", values: BigInt64Array.from(ids as bigint[]) },
    vectors,
    fields: Object.fromEntries(fields.map(({ name }, i) => [name, columns[i]!])),
    payloads,
  }
}
