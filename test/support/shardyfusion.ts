/** Roots that the Python project shardyfusion has written, see test/fixtures/shardyfusion. */
import { readFileSync } from "node:fs"
import { gunzipSync } from "node:zlib"
import type { FieldValue, Id } from "../../src/records.js"
import { openMemoryStore } from "../../src/storage/memory.js"
import type { ObjectStore } from "../../src/storage/store.js"
import type { Metric } from "../../src/vectors/metric.js"
import { fromRoot } from "./paths.js"

export const FIXTURES = [
  "lance-cel-hash-cosine-sq",
  "lance-cluster-cosine-noindex",
  "lance-cluster-cosine-pq",
  "lance-explicit-dot-history",
  "lance-lsh-l2-sq",
  "sqlite-cel-categories-cosine",
  "sqlite-cluster-l2-f8",
  "sqlite-explicit-l2-history",
  "sqlite-lsh-cosine",
] as const
export type FixtureName = (typeof FIXTURES)[number]

export interface Fixture {
  readonly name: FixtureName
  /** By key. */
  readonly objects: ReadonlyMap<string, Buffer>
  readonly queries: FixtureQueries
  /** Rows of a run, by the name of the file in `queries.runs`. */
  rows(file: string): readonly FixtureRow[]
}

export interface FixtureQueries {
  readonly root: string
  readonly strategy: string
  readonly backend: "lancedb" | "sqlite-vec"
  readonly metric: "cosine" | "l2" | "dot_product"
  readonly dim: number
  readonly num_dbs: number
  readonly num_probes: number
  readonly current_run: string
  readonly runs: readonly {
    readonly run_id: string
    readonly manifest_ref: string
    readonly rows_file: string
  }[]
  readonly queries: readonly FixtureQuery[]
}

export interface FixtureQuery {
  readonly vector: readonly number[]
  readonly top_k: number
  readonly num_probes?: number
  readonly shard_ids?: readonly number[]
  readonly routing_context?: Readonly<Record<string, FieldValue>>
  readonly routed_shards: readonly number[]
  readonly probed_shards: readonly number[]
  readonly exact: { readonly ids: readonly string[]; readonly distances: readonly number[] }
}

export interface FixtureRow {
  readonly id: string
  readonly shard: number
  readonly vector: readonly number[]
  readonly payload: string | null
  readonly routing_context?: Readonly<Record<string, FieldValue>>
}

interface Packed {
  readonly objects: Readonly<Record<string, string>>
  readonly queries: FixtureQueries
  readonly rows: Readonly<Record<string, string>>
}

export function loadFixture(name: FixtureName): Fixture {
  const file = fromRoot("test/fixtures/shardyfusion", `${name}.json.gz`)
  const packed = JSON.parse(gunzipSync(readFileSync(file)).toString()) as Packed
  return {
    name,
    objects: new Map(Object.entries(packed.objects).map(([key, body]) => [key, Buffer.from(body, "base64")])),
    queries: packed.queries,
    rows: (rowsFile) =>
      packed.rows[rowsFile]!.trimEnd()
        .split("\n")
        .map((line) => JSON.parse(line) as FixtureRow),
  }
}

/** Puts the objects of a fixture into a store. */
export async function putFixture({ objects }: Fixture, store: ObjectStore): Promise<ObjectStore> {
  for (const [key, body] of objects) await store.put(key, body)
  return store
}

let stores = 0

/** A fixture in a store of its own. */
export const storedFixture = (name: FixtureName): Promise<ObjectStore> =>
  putFixture(loadFixture(name), openMemoryStore(`shardyfusion-${process.pid}-${stores++}`))

/** An id as the files of a fixture have it. */
export const fixtureId = (id: Id): string => (typeof id === "string" ? `s:${id}` : `i:${id}`)

export const fixtureMetric = (metric: FixtureQueries["metric"]): Metric =>
  metric === "dot_product" ? "dot" : metric
