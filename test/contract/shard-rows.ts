import type { FieldSpec, FieldValue, Id, IdType } from "../../src/records.js"
import type {
  IndexDescription,
  ShardHit,
  ShardPool,
  ShardReader,
  ShardRows,
  ShardSpec,
} from "../../src/shards/backend.js"
import { prepareQuery } from "../../src/shards/query.js"
import { localDirectory } from "../../src/shards/source.js"
import type { Metric } from "../../src/vectors/metric.js"

/** A row as tests write it: ids and integers as users give them. */
export interface TestRow {
  readonly id: Id
  readonly vector: ArrayLike<number>
  readonly fields?: Readonly<Record<string, FieldValue>>
  /** JSON text. */
  readonly payload?: string
}

export function specOf(
  dim: number,
  options: { metric?: Metric; idType?: IdType; wide?: boolean; fields?: readonly FieldSpec[] } = {},
): ShardSpec {
  const { metric = "l2", idType = "string", wide = false, fields = [] } = options
  return { dim, metric, id: { type: idType, wide }, fields }
}

/** Columns of the rows, sorted by id. */
export function rowsOf(input: readonly TestRow[], spec: ShardSpec): ShardRows {
  const rows = [...input].sort((a, b) => (a.id < b.id ? -1 : 1))
  const vectors = new Float32Array(rows.length * spec.dim)
  rows.forEach((row, i) => {
    vectors.set(row.vector, i * spec.dim)
  })
  const columns = spec.fields.map(({ name, type }) => [
    name,
    rows.map((row): FieldValue => {
      const value = row.fields?.[name] ?? null
      return type === "int64" && typeof value === "number" ? BigInt(value) : value
    }),
  ])
  return {
    rows: rows.length,
    ids:
      spec.id.type === "string"
        ? { type: "string", values: rows.map(({ id }) => String(id)) }
        : { type: "int64", values: BigInt64Array.from(rows, ({ id }) => BigInt(id)) },
    vectors,
    fields: Object.fromEntries(columns),
    payloads: rows.map(({ payload }) => payload ?? null),
  }
}

/** A shard as tests ask it: one vector at a time. */
export interface TestShard extends Omit<ShardReader, "search"> {
  search(
    vector: Float32Array,
    k: number,
    options?: { readonly signal?: AbortSignal },
  ): Promise<readonly ShardHit[]>
  /** What the pool knows it by. */
  readonly reader: ShardReader
}

/** Opens a shard whose files lie in `dir`. */
export async function openShard(
  pool: ShardPool,
  dir: string,
  spec: ShardSpec,
  index: IndexDescription,
): Promise<TestShard> {
  const reader = await pool.open(localDirectory(dir), spec, index)
  return {
    rows: reader.rows,
    get bytes() {
      return reader.bytes
    },
    search: async (vector, k, options) => reader.search(prepareQuery(vector, k, spec, options)),
    reader,
    get: (ids) => reader.get(ids),
    records: () => reader.records(),
    close: () => reader.close(),
  }
}

/** Deterministic values between -1 and 1 (a linear congruential generator, Numerical Recipes). */
export function noise(length: number, seed = 1): Float32Array {
  let state = seed >>> 0
  return Float32Array.from({ length }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 31 - 1
  })
}

/** Rows with ids r0000, r0001, … and random vectors. */
export function noiseRows(count: number, dim: number, seed = 1): TestRow[] {
  const vectors = noise(count * dim, seed)
  return Array.from({ length: count }, (_, i) => ({
    id: `r${String(i).padStart(4, "0")}`,
    vector: vectors.subarray(i * dim, (i + 1) * dim),
  }))
}

/** The public distance, computed by its definition and by none of the code under test. */
export function naiveDistance(metric: Metric, a: ArrayLike<number>, b: ArrayLike<number>): number {
  const sum = (term: (x: number, y: number) => number): number =>
    Array.from(a).reduce((total, x, i) => total + term(x, b[i]!), 0)
  switch (metric) {
    case "l2":
      return Math.sqrt(sum((x, y) => (x - y) ** 2))
    case "dot":
      return -sum((x, y) => x * y)
    case "cosine":
      return 1 - sum((x, y) => x * y) / Math.sqrt(sum((x) => x * x) * sum((_, y) => y * y))
  }
}
