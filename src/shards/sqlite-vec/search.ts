import { corrupt, errorToWire, type WireError } from "../../errors.js"
import type { FieldType, FieldValue, SnapshotIdType } from "../../records.js"
import { NearestRows } from "../../vectors/scan.js"
import { kindOf } from "../../wording.js"
import type { StoredColumns } from "../stored.js"
import type { OpenShard } from "./open.js"

// What SQLite hands back where the file is sound: integers as `bigint`, whatever their size.
const ID_VALUES: Readonly<Record<SnapshotIdType, readonly string[]>> = {
  string: ["string"],
  int64: ["bigint"],
  mixed: ["string", "bigint"],
}
const FIELD_VALUE: Readonly<Record<FieldType, string>> = {
  string: "string",
  int64: "bigint",
  float64: "number",
  bool: "bigint",
}

/** Hits of one or more shards, in columns; each shard's together, nearest first. */
export interface Hits extends StoredColumns {
  readonly distances: readonly number[]
}

/** What some shards answer to a query. */
export interface Answers {
  readonly hits: Hits
  /**
   * For each shard how many hits there are up to its last one: those of shard i are `ends[i - 1] … ends[i] -
   * 1`.
   */
  readonly ends: readonly number[]
  /** Shards that could not answer, by their place among those asked. */
  readonly errors: readonly { readonly place: number; readonly error: WireError }[]
}

/** A row near the query. */
interface Near {
  readonly place: number
  readonly distance: number
  readonly record: CheckedRecord
}

/**
 * The rows of some shards of one snapshot that may be among the nearest `k` records of all, by an exact scan;
 * of a single shard its nearest `k`. Rows are in order of id, so that ties by row are ties by id; whether the
 * vectors come from memory or from the file, the same arithmetic gives the same hits.
 *
 * All shards are one scan, so that what was found in one shortens the next, and only records that matter are
 * read. Throws what the first shard throws that cannot be read.
 */
export function searchShards(shards: readonly OpenShard[], query: Float32Array, k: number): Answers {
  const { metric, dim } = shards[0]!.spec
  const rows = shards.reduce((sum, shard) => sum + shard.rows, 0)
  // A record may lie in several of the shards, so that k rows may be fewer records.
  const wanted = Math.min(rows, shards.length === 1 ? k : 2 * k)
  const distinct = shards.length === 1 ? undefined : k
  const nearest = new NearestRows(metric, query, dim, wanted, { rows, distinct })
  const firstRanks: number[] = []
  let firstRank = 0
  for (const shard of shards) {
    firstRanks.push(firstRank)
    for (const { firstRow, ranks, table } of shard.blocks()) {
      nearest.add(table, ranks === undefined ? firstRank + firstRow : firstRank, { ranks })
    }
    firstRank += shard.rows
  }
  const { ranks, distances } = nearest.takeSorted()[0]!
  const found: Near[] = []
  const seen = new Set<unknown>()
  // Beyond the k-th record none is of use, but others as near may be: shards and ids decide between them.
  let kth = Infinity
  for (let i = 0; i < ranks.length && distances[i]! <= kth; i++) {
    const distance = distances[i]!
    const place = placeOf(firstRanks, ranks[i]!)
    const record = readRecord(shards[place]!, ranks[i]! - firstRanks[place]!)
    found.push({ place, distance, record })
    if (seen.add(record.id).size === k) kth = distance
  }
  const isCutOff = found.length === wanted && wanted < rows
  if (isCutOff && shards.length > 1) return together(shards.map((shard) => searchShards([shard], query, k)))
  return toAnswers(shards, found)
}

/** {@link searchShards} of each shard by itself, as far as they can answer. */
export function searchEach(
  handles: readonly number[],
  open: (handle: number) => OpenShard,
  query: Float32Array,
  k: number,
): Answers {
  return together(
    handles.map((handle) => {
      try {
        return searchShards([open(handle)], query, k)
      } catch (error) {
        return { hits: NO_HITS, ends: [0], errors: [{ place: 0, error: errorToWire(error) }] }
      }
    }),
  )
}

const NO_HITS: Hits = { ids: [], fields: [], payloads: [], distances: [] }

/** The shard that has a rank: the last one that begins at or before it. */
function placeOf(firstRanks: readonly number[], rank: number): number {
  let place = firstRanks.length - 1
  while (firstRanks[place]! > rank) place--
  return place
}

/** Shards' hits one after another. `found` is in order of distance. */
function toAnswers(shards: readonly OpenShard[], found: readonly Near[]): Answers {
  const ordered = shards.flatMap((_, place) => found.filter((near) => near.place === place))
  const hits = {
    ...toColumns(
      shards[0]!.spec.fields.length,
      ordered.map(({ record }) => record),
    ),
    distances: ordered.map(({ distance }) => distance),
  }
  const ends: number[] = []
  for (const [place] of shards.entries()) {
    const own = found.reduce((count, near) => count + (near.place === place ? 1 : 0), 0)
    ends.push((ends.at(-1) ?? 0) + own)
  }
  return { hits, ends, errors: [] }
}

/** Answers of one shard each, as one. */
function together(answers: readonly Answers[]): Answers {
  const hits = answers.map((answer) => answer.hits)
  const columns = Math.max(...hits.map(({ fields }) => fields.length))
  const ends: number[] = []
  for (const { distances } of hits) ends.push((ends.at(-1) ?? 0) + distances.length)
  return {
    hits: {
      ids: hits.flatMap(({ ids }) => ids),
      fields: Array.from({ length: columns }, (_, i) => hits.flatMap(({ fields }) => fields[i] ?? [])),
      payloads: hits.flatMap(({ payloads }) => payloads),
      distances: hits.flatMap(({ distances }) => distances),
    },
    ends,
    errors: answers.flatMap(({ errors }, place) => errors.map(({ error }) => ({ place, error }))),
  }
}

/** A record whose values are of the types that its snapshot declares. */
interface CheckedRecord {
  readonly id: string | bigint
  readonly fields: readonly FieldValue[]
  readonly payload: string | null
}

function readRecord(shard: OpenShard, row: number): CheckedRecord {
  const { spec } = shard
  const record = shard.readRecord(row)
  const misfit = (what: string, value: unknown): Error =>
    corrupt(`${shard.file}: row ${row + 1} has ${kindOf(value)} for its ${what}`, { file: shard.file })
  const [id] = record
  if (!ID_VALUES[spec.id.type].includes(typeof id)) throw misfit("id", id)
  const fields = spec.fields.map((field, i) => {
    const value = record[i + 1]
    if (value !== null && typeof value !== FIELD_VALUE[field.type])
      throw misfit(`field "${field.name}"`, value)
    return field.type === "bool" && value !== null ? value === 1n : (value as FieldValue)
  })
  const payload = record[fields.length + 1]
  if (payload !== null && typeof payload !== "string") throw misfit("payload", payload)
  return { id: id as string | bigint, fields, payload }
}

function toColumns(fieldCount: number, records: readonly CheckedRecord[]): StoredColumns {
  return {
    ids: records.map(({ id }) => id),
    fields: Array.from({ length: fieldCount }, (_, i) => records.map(({ fields }) => fields[i]!)),
    payloads: records.map(({ payload }) => payload),
  }
}

/** The records of these rows, apart from their vectors. */
export function readColumns(shard: OpenShard, rows: readonly number[]): StoredColumns {
  return toColumns(
    shard.spec.fields.length,
    rows.map((row) => readRecord(shard, row)),
  )
}
