/**
 * A query over shards that are read in ranges, in three steps: candidates by the codes, which are at hand;
 * one wave of reads for their vectors; one for the records of the hits.
 */
import { throwIfAborted } from "../../../errors.js"
import type { SnapshotCodes } from "../../../vectors/cells/codebook.js"
import type { CellEffort } from "../../../vectors/cells/effort.js"
import { distance } from "../../../vectors/distance.js"
import type { ShardAnswer, ShardHit } from "../../backend.js"
import type { ShardQuery } from "../../query.js"
import { viewRecord } from "../../stored.js"
import type { Candidates } from "./candidates.js"
import type { RangedShard } from "./shard.js"

/** What a query must have to be answered so. */
export interface RangedQuery {
  readonly query: ShardQuery
  readonly effort: CellEffort
  readonly codes: SnapshotCodes
}

interface NearRow {
  /** Of its shard among those asked. */
  readonly place: number
  readonly position: number
  readonly rank: number
  readonly distance: number
  readonly isHome: boolean
}

/**
 * What each of the shards answers, all of which have codes. Undefined without compiled kernels, and where the
 * candidates are fewer than the rows that are wanted: these take a scan of the shards. Shards that cannot be
 * read say so; the others then lack nothing.
 */
export async function searchRanged(
  shards: readonly RangedShard[],
  asked: RangedQuery,
  candidates: Candidates,
): Promise<readonly ShardAnswer[] | undefined> {
  const answers = new Map<RangedShard, ShardAnswer>()
  for (;;) {
    const left = shards.filter((shard) => !answers.has(shard))
    const found = await searchOnce(left, asked, candidates)
    if (found === undefined) return undefined
    throwIfAborted(asked.query.signal)
    const failed = left.filter((_, i) => "error" in found[i]!)
    // What is found in one shard may displace what others have: without it they are asked again.
    const settled = failed.length > 0 ? failed : left
    for (const shard of settled) answers.set(shard, found[left.indexOf(shard)]!)
    if (failed.length === 0) return shards.map((shard) => answers.get(shard)!)
  }
}

async function searchOnce(
  shards: readonly RangedShard[],
  { query, effort, codes }: RangedQuery,
  candidates: Candidates,
): Promise<readonly ShardAnswer[] | undefined> {
  if (shards.length === 0) return []
  const { vector, k, signal } = query
  const positions = candidates.find(shards, codes, vector, k, effort)
  if (positions === undefined) return undefined
  const measured = await settleEach(shards, async (shard, place) =>
    measure(shard, place, positions[place]!, vector, await shard.vectors(positions[place]!, signal)),
  )
  const { nearest, records } = nearestRows(
    measured.flatMap((result) => ("value" in result ? result.value : [])),
    k,
  )
  const candidateRows = positions.reduce((sum, some) => sum + some.length, 0)
  const isSound = measured.every((result) => "value" in result)
  if (isSound && records < k && candidateRows < shards.reduce((sum, { cells }) => sum + cells.rows, 0))
    return undefined
  return settleEach(shards, async (shard, place) => {
    const result = measured[place]!
    if ("error" in result) throw result.error
    const own = nearest.filter((row) => row.place === place).slice(0, k)
    if (own.length === 0) return []
    const columns = await shard.columns(
      own.map(({ position }) => position),
      signal,
    )
    return own.map(
      (row, i): ShardHit => ({ ...viewRecord(columns, i, shard.spec, shard.name), distance: row.distance }),
    )
  }).then((results) =>
    results.map((result): ShardAnswer => ("value" in result ? { hits: result.value } : result)),
  )
}

function measure(
  { spec: { metric, dim }, cells }: RangedShard,
  place: number,
  positions: readonly number[],
  query: Float32Array,
  vectors: Float32Array,
): readonly NearRow[] {
  return positions.map((position, i) => ({
    place,
    position,
    rank: cells.ranks[position]!,
    distance: distance(metric, query, vectors.subarray(i * dim, (i + 1) * dim)),
    isHome: ((cells.home[position >> 3]! >> (position & 7)) & 1) === 1,
  }))
}

/**
 * The rows that may be among the nearest `k` records, nearest first, equal ones by shard, then id; and how
 * many records they are.
 */
function nearestRows(rows: readonly NearRow[], k: number) {
  const sorted = rows.toSorted((a, b) => a.distance - b.distance || a.place - b.place || a.rank - b.rank)
  let records = 0
  let end = 0
  while (end < sorted.length && (records < k || sorted[end]!.distance === sorted[end - 1]!.distance)) {
    const { distance, isHome } = sorted[end]!
    // A copy is as far away as the row whose copy it is, which may be any that is as far.
    const isCopy = !isHome && sorted[end - 1]?.distance === distance
    if (!isCopy) records++
    end++
  }
  return { nearest: sorted.slice(0, end), records }
}

type Settled<T> = { readonly value: T } | { readonly error: unknown }

function settleEach<T>(
  shards: readonly RangedShard[],
  work: (shard: RangedShard, place: number) => Promise<T>,
): Promise<readonly Settled<T>[]> {
  return Promise.all(
    shards.map((shard, place) =>
      work(shard, place).then(
        (value): Settled<T> => ({ value }),
        (error: unknown): Settled<T> => ({ error }),
      ),
    ),
  )
}
