import { corrupt, errorToWire, type WireError } from "../../errors.js"
import type { FieldType, FieldValue, SnapshotIdType } from "../../records.js"
import { NearestRows } from "../../vectors/scan.js"
import { kindOf } from "../../wording.js"
import type { ShardSpec } from "../backend.js"
import type { StoredColumns } from "../stored.js"
import type { Block } from "./open.js"

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

/** A shard as searches see it. Rows are counted from 0 in order of id. */
export interface SearchedShard {
  readonly file: string
  readonly spec: ShardSpec
  readonly rows: number
  /** All vectors, in blocks in the order in which they are stored. */
  blocks(): Iterable<Block>
  readRecord(row: number): readonly unknown[]
}

/** A row near the query. */
export interface NearRow {
  /** Of its shard among those asked. */
  readonly place: number
  readonly row: number
  readonly distance: number
}

/** Rows near a query that were found in some shards in another way than by a scan of all their rows. */
export interface FoundRows {
  /** Of these shards among those asked. */
  readonly places: ReadonlySet<number>
  /** The nearest `wanted` of them at least, and others as near; in no order. */
  nearest(wanted: number): { readonly rows: readonly NearRow[]; readonly isAll: boolean }
}

interface Near extends NearRow {
  readonly record: CheckedRecord
}

/** Nearest first; equal ones by shard, then id. */
const byNearness = (a: NearRow, b: NearRow): number =>
  a.distance - b.distance || a.place - b.place || a.row - b.row

/**
 * The rows of some shards of one snapshot that may be among the nearest `k` records of all, by an exact scan;
 * of a single shard its nearest `k`. Whether vectors come from memory or from the file, the same arithmetic
 * gives the same hits.
 *
 * All shards are one scan, so that what was found in one shortens the next, and only records that matter are
 * read. Throws what the first shard throws that cannot be read.
 *
 * @param others what was found in those of the shards that are not to be scanned
 */
export function searchShards(
  shards: readonly SearchedShard[],
  query: Float32Array,
  k: number,
  others?: FoundRows,
): Answers {
  const whole = Array.from(shards.keys()).filter((place) => !others?.places.has(place))
  let scanned = scanWhole(shards, whole, query, k)
  // A record may lie in several shards.
  for (let wanted = 2 * k; ; wanted *= 4) {
    const more = others?.nearest(wanted) ?? { rows: [], isAll: true }
    const found = readNearest(shards, [...scanned.rows, ...more.rows], k)
    const taken = found.reduce((sum, { place }) => sum + (others?.places.has(place) ? 1 : 0), 0)
    const isScanUsedUp = scanned.isCutOff && found.length - taken === scanned.rows.length
    const areOthersUsedUp = !more.isAll && taken === more.rows.length
    if (!isScanUsedUp && !areOthersUsedUp) {
      // Small cells may have fewer than k rows together. Who asks for k gets them if there are so many.
      const rows = Array.from(others?.places ?? []).reduce((sum, place) => sum + shards[place]!.rows, 0)
      const isShort = taken < rows && new Set(found.map(({ record }) => record.id)).size < k
      return isShort ? searchShards(shards, query, k) : toAnswers(shards, found)
    }
    // Copies have taken all places. A shard by itself has none.
    if (isScanUsedUp) {
      const apart = whole.flatMap((place) => scanWhole(shards, [place], query, k).rows)
      scanned = { rows: apart, isCutOff: false }
    }
  }
}

/** The nearest rows of those of the shards at some places. */
function scanWhole(
  shards: readonly SearchedShard[],
  places: readonly number[],
  query: Float32Array,
  k: number,
): { readonly rows: readonly NearRow[]; readonly isCutOff: boolean } {
  if (places.length === 0) return { rows: [], isCutOff: false }
  const { metric, dim } = shards[0]!.spec
  const rows = places.reduce((sum, place) => sum + shards[place]!.rows, 0)
  // A record may lie in several of the shards, so that k rows may be fewer records.
  const wanted = Math.min(rows, places.length === 1 ? k : 2 * k)
  const distinct = places.length === 1 ? undefined : k
  const nearest = new NearestRows(metric, query, dim, wanted, { rows, distinct })
  const firstRanks: number[] = []
  let firstRank = 0
  for (const place of places) {
    const shard = shards[place]!
    firstRanks.push(firstRank)
    for (const { firstRow, ranks, table, allowed } of shard.blocks())
      nearest.add(table, ranks === undefined ? firstRank + firstRow : firstRank, { allowed, ranks })
    firstRank += shard.rows
  }
  const { ranks, distances } = nearest.takeSorted()[0]!
  return {
    rows: Array.from(ranks, (rank, i): NearRow => {
      const part = placeOf(firstRanks, rank)
      return { place: places[part]!, row: rank - firstRanks[part]!, distance: distances[i]! }
    }),
    isCutOff: places.length > 1 && wanted < rows && ranks.length === wanted,
  }
}

/** Records of the nearest rows, up to the k-th record and others as near. */
function readNearest(shards: readonly SearchedShard[], rows: readonly NearRow[], k: number): readonly Near[] {
  const found: Near[] = []
  const seen = new Set<unknown>()
  // Beyond the k-th record none is of use, but others as near may be: shards and ids decide between them.
  let kth = Infinity
  for (const near of rows.toSorted(byNearness)) {
    if (near.distance > kth) break
    const record = readRecord(shards[near.place]!, near.row)
    found.push({ ...near, record })
    if (seen.add(record.id).size === k) kth = near.distance
  }
  return found
}

/** What some shards answer each by itself, as far as they can. */
export function searchEach(handles: readonly number[], search: (handle: number) => Answers): Answers {
  return together(
    handles.map((handle) => {
      try {
        return search(handle)
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
function toAnswers(shards: readonly SearchedShard[], found: readonly Near[]): Answers {
  // A stable sort.
  const ordered = found.toSorted((a, b) => a.place - b.place)
  const hits = {
    ...toColumns(
      shards[0]!.spec.fields.length,
      ordered.map(({ record }) => record),
    ),
    distances: ordered.map(({ distance }) => distance),
  }
  const ends = new Array<number>(shards.length).fill(0)
  for (const { place } of found) ends[place]!++
  for (let place = 1; place < ends.length; place++) ends[place]! += ends[place - 1]!
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

/** What gives records by row. */
type RecordSource = Pick<SearchedShard, "file" | "spec" | "readRecord">

function readRecord(shard: RecordSource, row: number): CheckedRecord {
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
export function readColumns(shard: RecordSource, rows: readonly number[]): StoredColumns {
  return toColumns(
    shard.spec.fields.length,
    rows.map((row) => readRecord(shard, row)),
  )
}
