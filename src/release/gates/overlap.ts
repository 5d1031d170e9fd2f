/**
 * Whether the new snapshot answers as the live one does: records that are in both are searched for in both,
 * and their neighbours compared.
 */

import type { Logger } from "../../logger.js"
import type { Manifest } from "../../manifest/manifest.js"
import { openSnapshot } from "../../reader/reader.js"
import type { FoundRecord, Reader, RouteOptions } from "../../reader/types.js"
import type { Id } from "../../records.js"
import { strategyType } from "../../sharding/registry.js"
import type { TrustOptions } from "../../shards/pools.js"
import type { ObjectStore } from "../../storage/store.js"
import { withTempDir } from "../../storage/temp-dir.js"
import { createRandom, type Random } from "../../vectors/random.js"
import type { Measurement } from "./judge.js"
import type { GateOptions } from "./options.js"

const DEFAULT_QUERIES = 100
const DEFAULT_K = 10
const SEED = 1
/** Records drawn per query wanted, since some are new and so not in the live snapshot. */
const DRAWN_PER_QUERY = 2
/** Random directions that a sample looks into, at most; each looks into one shard. */
const DIRECTIONS = 16
/**
 * A record is drawn from so many that are nearest to a random direction: from few, the outermost would be
 * drawn again and again.
 */
const NEAREST = 1000

/** Both snapshots are opened with the same trust: shards of the new one may be those of the live one. */
export interface OverlapContext extends TrustOptions {
  readonly logger: Logger
  /** Shards are downloaded to a directory below it, which is removed in the end; default: the system's. */
  readonly tempDir?: string | undefined
  readonly signal?: AbortSignal | undefined
}

/** Reads the shards that the searches need, of both snapshots: those that they share once. */
export async function measureOverlap(
  store: ObjectStore,
  candidate: Manifest,
  live: Manifest,
  options: NonNullable<GateOptions["overlap"]>,
  { logger, tempDir, signal, trust, isolation }: OverlapContext,
): Promise<Measurement> {
  const { dim, metric, id } = candidate.schema
  if (dim !== live.schema.dim || metric !== live.schema.metric)
    return { missing: "searches under another dimension or metric can't be compared" }
  if (id.type !== live.schema.id.type)
    return {
      value: 0,
      reason: `ids were of type ${live.schema.id.type} and are ${id.type} now: none is in both`,
    }
  return withTempDir(tempDir, "vecsnap-gates", async (cacheDir) => {
    const open = ({ run }: Manifest): Promise<Reader> =>
      openSnapshot(store, { snapshot: run, cacheDir, logger, signal, trust, isolation })
    await using now = await open(candidate)
    await using before = await open(live)
    return await compareAnswers(now, before, candidate, options, signal)
  })
}

async function compareAnswers(
  now: Reader,
  before: Reader,
  candidate: Manifest,
  { queries = DEFAULT_QUERIES, k = DEFAULT_K, probes }: NonNullable<GateOptions["overlap"]>,
  signal: AbortSignal | undefined,
): Promise<Measurement> {
  const drawn = await drawIds(now, candidate, queries * DRAWN_PER_QUERY, signal)
  const liveRecords = await before.get(drawn, withSignal({}, signal))
  const places = [...drawn.keys()].filter((place) => liveRecords[place] !== undefined).slice(0, queries)
  if (places.length === 0)
    return { value: 0, reason: `none of ${drawn.length} records drawn is in the live snapshot` }
  const ids = places.map((place) => drawn[place]!)
  const records = (await now.get(ids, withSignal({}, signal))).map((record) => record!)
  const vectors = records.map(({ vector }) => vector)
  const [found, expected] = await Promise.all([
    neighbours(now, records, vectors, k, probes, signal),
    neighbours(
      before,
      places.map((place) => liveRecords[place]!),
      vectors,
      k,
      probes,
      signal,
    ),
  ])
  const shares = found.flatMap((hits, i) => sharedPart(hits, expected[i]!) ?? [])
  if (shares.length === 0) return { missing: "the records of the live snapshot have no neighbours" }
  const value = shares.reduce((sum, share) => sum + share, 0) / shares.length
  return {
    value,
    reason: `of the ${k} nearest live records ${(100 * value).toFixed(1)}% are found, by ${shares.length} searches for records in both`,
  }
}

/** The part of `expected` that is in `found`; `undefined` if nothing is expected. */
export function sharedPart(found: readonly string[], expected: readonly string[]): number | undefined {
  if (expected.length === 0) return undefined
  const known = new Set(found)
  return expected.filter((id) => known.has(id)).length / expected.length
}

/**
 * Ids of `count` records at most, each once; the same for the same snapshot.
 *
 * Shards can't be listed, only searched. So records are drawn at random from those nearest to random
 * directions in random shards, larger shards more often. From a small snapshot they are drawn at random from
 * all.
 */
async function drawIds(
  reader: Reader,
  { shards, schema, rows, copies = 0, build }: Manifest,
  count: number,
  signal: AbortSignal | undefined,
): Promise<readonly Id[]> {
  const random = createRandom(SEED)
  const directions = rows <= NEAREST ? 1 : Math.min(count, DIRECTIONS)
  const perDirection = Math.ceil(count / directions)
  const k = Math.max(NEAREST, perDirection)
  const length = build.norms?.median || 1
  const looks: ReadonlyMap<number | "all", number> =
    directions === 1 ? new Map([["all", 1]]) : directionsByShard(shards, rows + copies, directions, random)
  const drawn = new Map<string, Id>()
  for (const [shard, times] of looks) {
    const vectors = Array.from({ length: times }, () => randomVector(schema.dim, length, random))
    const route: RouteOptions = { shards: shard === "all" ? shard : [shard] }
    const results = await reader.searchMany(vectors, withSignal({ ...route, k }, signal))
    for (const { hits } of results) {
      const ids = hits.map(({ id }) => id)
      for (let n = 0; n < perDirection && ids.length > 0; n++) {
        const id = takeAny(ids, random)
        drawn.set(String(id), id)
      }
    }
  }
  return [...drawn.values()]
}

/** Which shards to look into, and how often: each direction falls on a row, all rows being as likely. */
function directionsByShard(
  shards: Manifest["shards"],
  stored: number,
  directions: number,
  random: Random,
): ReadonlyMap<number, number> {
  const times = new Map<number, number>()
  for (let n = 0; n < directions; n++) {
    let row = Math.floor(random.float() * stored)
    const entry = shards.find((shard) => {
      row -= shard.rows
      return row < 0
    })
    if (entry !== undefined) times.set(entry.shard, (times.get(entry.shard) ?? 0) + 1)
  }
  return times
}

/**
 * A random direction, as long as the vectors are: far from all, the nearest under l2 would be the same few.
 */
function randomVector(dim: number, length: number, random: Random): Float32Array {
  const vector = Float32Array.from({ length: dim }, () => random.gaussian())
  const norm = Math.hypot(...vector)
  return vector.map((value) => (value / norm) * length)
}

function takeAny<T>(items: T[], random: Random): T {
  const place = random.below(items.length)
  const taken = items[place]!
  items[place] = items[items.length - 1]!
  items.pop()
  return taken
}

/**
 * For each record the ids of its `k` nearest neighbours, as text, without its own. Where shards are not
 * ranked for a vector, the record's own is searched.
 */
async function neighbours(
  reader: Reader,
  records: readonly FoundRecord[],
  vectors: readonly Float32Array[],
  k: number,
  probes: number | "all" | undefined,
  signal: AbortSignal | undefined,
): Promise<readonly (readonly string[])[]> {
  const named = probes !== "all" && strategyType(reader.snapshot.strategy).queriesBy !== "vector"
  const groups = new Map<number | undefined, number[]>()
  records.forEach(({ shard }, place) => {
    const group = named ? shard : undefined
    groups.set(group, [...(groups.get(group) ?? []), place])
  })
  const found: (readonly string[])[] = records.map(() => [])
  for (const [shard, places] of groups) {
    const route: RouteOptions =
      shard !== undefined
        ? { shards: [shard] }
        : probes === "all"
          ? { shards: "all" }
          : probes
            ? { probes }
            : {}
    const results = await reader.searchMany(
      places.map((place) => vectors[place]!),
      withSignal({ ...route, k: k + 1 }, signal),
    )
    results.forEach(({ hits }, i) => {
      const place = places[i]!
      // As text: the same integer may be a number in one snapshot and a bigint in the other.
      const own = String(records[place]!.id)
      found[place] = hits
        .map(({ id }) => String(id))
        .filter((id) => id !== own)
        .slice(0, k)
    })
  }
  return found
}

const withSignal = <T extends object>(
  options: T,
  signal: AbortSignal | undefined,
): T & { signal?: AbortSignal } => (signal === undefined ? options : { ...options, signal })
