import { join } from "node:path"
import { assertWholeNumber, invalidInput, isVecsnapError, unsupported } from "../../errors.js"
import { type Logger, silentLogger } from "../../logger.js"
import { findSnapshot, readLiveSnapshot } from "../../manifest/formats.js"
import { openSnapshot } from "../../reader/reader.js"
import type { Reader, SearchOptions } from "../../reader/types.js"
import { CERTIFIED_NEIGHBOURS, type Neighbour } from "../../recall/certificate.js"
import {
  CERTIFIED_TARGETS,
  certifiedRecall,
  curveOf,
  defaultProbes,
  RECALL_KS,
  type RecallCertificate,
  type RecallCurve,
  type TargetFigures,
  targetFiguresOf,
} from "../../recall/curves.js"
import { idKey, NO_ID } from "../../recall/id-key.js"
import { type QueryInput, readQueries } from "../../recall/queries.js"
import { createShardScan, sampleRows, trueNeighbours } from "../../recall/truth.js"
import { strategyType } from "../../sharding/registry.js"
import { TARGET_K } from "../../sharding/strategy.js"
import type { TrustOptions } from "../../shards/pools.js"
import { loadTrustedKeys, type TrustedKeyOption } from "../../snapshot/signatures/keys.js"
import type { Snapshot } from "../../snapshot/snapshot.js"
import type { StoreOptions } from "../../storage/open.js"
import { type Root, withRoot } from "../../storage/root.js"
import type { ObjectStore } from "../../storage/store.js"
import { withTempDir } from "../../storage/temp-dir.js"
import { createRandom } from "../../vectors/random.js"

export interface EvaluateOptions extends TrustOptions {
  /** Real queries; default: rows of the snapshot, each of which is no neighbour of itself. */
  readonly queries?: QueryInput | undefined
  /** Rows to sample, where there are no queries; default 500. */
  readonly sample?: number | undefined
  /** Numbers of neighbours, from 1 to 100; default 1, 10 and 100. */
  readonly ks?: readonly number[] | undefined
  /** Numbers of probes; default 1, 2, 4, 8, 16 and the snapshot's own, as far as there are so many shards. */
  readonly probes?: readonly number[] | undefined
  /** Recalls of the ten nearest to ask for; default .90, .95 and .98, if the snapshot can be asked. */
  readonly targets?: readonly number[] | undefined
  /** Run of the snapshot, whether live or not; default: the live one. */
  readonly snapshot?: string | undefined
  /** Public keys, as readers take them: nothing else than what one of them has signed is measured. */
  readonly trustedKeys?: readonly TrustedKeyOption[] | undefined
  /** Which rows are sampled; default 1. */
  readonly seed?: number | undefined
  /** For shards that are downloaded, the whole snapshot twice; removed in the end. Default: the system's. */
  readonly tempDir?: string | undefined
  readonly store?: StoreOptions | undefined
  readonly signal?: AbortSignal | undefined
  readonly logger?: Logger | undefined
}

/** One figure of the certificate, and the same as measured now. */
export interface ComparedRecall {
  readonly k: number
  readonly probes: number
  readonly measured: number
  readonly certified: number
  /** `measured - certified`. */
  readonly difference: number
  /** Whether that is within the 95 % interval of the difference of both. */
  readonly agrees: boolean
}

export interface Evaluation {
  readonly snapshot: string
  readonly url: string
  readonly rows: number
  readonly queries: { readonly kind: "rows" | "given"; readonly count: number; readonly seed: number }
  /** Whether shards are ranked for a vector, or each row was looked for in its own shard. */
  readonly routedBy: "vector" | "row"
  /** Rising, as far as there are shards. */
  readonly probes: readonly number[]
  /** Lists as long as `probes`. */
  readonly curves: readonly RecallCurve[]
  readonly targets: readonly TargetFigures[]
  /**
   * What the targets reach for queries of each kind: those of `targets` and others. Empty if the snapshot
   * cannot be asked for a recall.
   */
  readonly kinds: readonly EvaluatedKind[]
  /** Probes that a query of the snapshot has by default. */
  readonly defaultProbes: number
  /**
   * Shards that hold rows: how many, copies included, and the share of the queries that probed it at
   * `defaultProbes`.
   */
  readonly shards: readonly { readonly shard: number; readonly rows: number; readonly probed: number }[]
  readonly certificate: RecallCertificate | undefined
  /** Figures that both have; empty without a certificate. */
  readonly compared: readonly ComparedRecall[]
}

/** Recall reached by queries of one kind. */
export interface EvaluatedKind {
  /**
   * `stored`: rows of the snapshot, each of which is no neighbour of itself; `near`: the same with noise of
   * three tenths of their length; `given`: real queries; `held-out`: rows that the build held out, as its
   * certificate has measured them.
   */
  readonly kind: "stored" | "near" | "given" | "held-out"
  readonly count: number
  readonly targets: readonly TargetFigures[]
}

/** Length of the noise of {@link EvaluatedKind} `near`, in lengths of the vector. */
const NOISE = 0.3
const DEFAULT_SAMPLE = 500
const DEFAULT_PROBES = [1, 2, 4, 8, 16]
/** Queries that are answered together. */
const AT_ONCE = 64

/**
 * Measures the recall of the live snapshot of a root, or of `options.snapshot`. Downloads all of it.
 *
 * Throws `InvalidInput` for options or queries that can't be, `Unsupported` for real queries of a strategy
 * whose queries name their shards, `NotFound` if there is no such snapshot, `Corrupt` if none of
 * `trustedKeys` has signed it.
 */
export async function evaluateSnapshot(from: Root, options: EvaluateOptions = {}): Promise<Evaluation> {
  checkOptions(options)
  return withRoot(from, options, async (store) => {
    const measure = async (dir: string): Promise<Evaluation> => {
      const { signal, trust, isolation, trustedKeys } = options
      const trusted = trustedKeys && (await loadTrustedKeys("trustedKeys", trustedKeys))
      const { snapshot } =
        options.snapshot === undefined
          ? await readLiveSnapshot(store, { trusted, signal })
          : await findSnapshot(store, options.snapshot, { trusted, signal })
      await using reader = await openSnapshot(store, {
        snapshot: snapshot.run,
        cacheDir: join(dir, "cache"),
        logger: options.logger ?? silentLogger,
        ...(options.signal && { signal: options.signal }),
        trust,
        isolation,
        trustedKeys,
      })
      return await evaluate(store, snapshot, reader, dir, options)
    }
    try {
      return await withTempDir(options.tempDir, "vecsnap-eval", measure)
    } finally {
    }
  })
}

function checkOptions({ ks = [], probes = [], targets = [], sample, seed }: EvaluateOptions): void {
  assertWholeNumber("sample", sample, 1)
  assertWholeNumber("seed", seed, 0)
  for (const count of probes) assertWholeNumber("probes", count, 1)
  const badK = ks.find((k) => !(Number.isInteger(k) && k >= 1 && k <= CERTIFIED_NEIGHBOURS))
  if (badK !== undefined) {
    throw invalidInput(`option ks has ${badK}, expected whole numbers from 1 to ${CERTIFIED_NEIGHBOURS}`, {
      ks,
    })
  }
  const badTarget = targets.find((target) => !(target > 0 && target <= 1))
  if (badTarget !== undefined) {
    throw invalidInput(`option targets has ${badTarget}, expected numbers above 0, at most 1`, { targets })
  }
}

interface Queries {
  readonly kind: "stored" | "near" | "given"
  readonly vectors: readonly Float32Array[]
  /** Of rows: what tells them from others. */
  readonly own: Float64Array | undefined
  /** Of rows whose strategy has shards named: the shard of each. */
  readonly shards: readonly number[] | undefined
}

async function evaluate(
  store: ObjectStore,
  snapshot: Snapshot,
  reader: Reader,
  dir: string,
  options: EvaluateOptions,
): Promise<Evaluation> {
  const { schema, sharding, recall: certificate } = snapshot
  const { signal, seed = 1, trust, isolation } = options
  const scan = createShardScan(store, snapshot, join(dir, "shards"), { signal, trust, isolation })
  const routedBy = strategyType(sharding.strategy).queriesBy === "vector" ? "vector" : "row"
  const kinds = await takeQueries()
  const queries = kinds[0]!
  const truths = await truthsOf(kinds)
  const truth = truths[0]!

  const own = defaultProbes(sharding)
  const most = snapshot.shards.length
  const wanted = options.probes ?? [...DEFAULT_PROBES, own]
  const probes =
    routedBy === "row"
      ? [1]
      : [...new Set(wanted.map((count) => Math.min(count, most)))].sort((a, b) => a - b)
  const compared = snapshot.rows - (queries.kind === "stored" ? 1 : 0)
  const ks = [...new Set(options.ks ?? RECALL_KS)]
    .filter((k) => k === 1 || k <= compared)
    .sort((a, b) => a - b)
  // One more, since one may be the query itself.
  const searching = (count: number) => (routedBy === "row" ? {} : { probes: count })
  const found = await searchAll(queries, searching, probes, CERTIFIED_NEIGHBOURS + 1)
  const curves = ks.map((k) =>
    curveOf(
      k,
      found.map(({ keys }) => sharesOf(truth, keys, k)),
    ),
  )
  const reached = routedBy === "row" ? [] : await measureTargets()
  const atOwn = found[probes.findLastIndex((count) => count <= own)] ?? found[0]!
  return {
    snapshot: snapshot.run,
    url: store.url,
    rows: snapshot.rows,
    queries: {
      kind: queries.kind === "given" ? "given" : "rows",
      count: queries.vectors.length,
      seed,
    },
    routedBy,
    probes,
    curves,
    targets: reached[0]?.targets ?? [],
    kinds: reached,
    defaultProbes: own,
    shards: snapshot.shards.map(({ shard, rows }) => ({
      shard,
      rows,
      probed: atOwn.asked.filter((asked) => asked.includes(shard)).length / queries.vectors.length,
    })),
    certificate,
    compared: certificate ? compareWith(certificate, probes, curves) : [],
  }

  /** Those that curves are of, then others that targets are measured with, too. */
  async function takeQueries(): Promise<readonly Queries[]> {
    const given = options.queries && (await takeGiven(options.queries))
    const rows = await sampleRows(scan, schema.dim, options.sample ?? DEFAULT_SAMPLE, seed)
    const usable = rows.filter(
      ({ vector }) => schema.metric !== "cosine" || vector.some((value) => value !== 0),
    )
    const stored: Queries = {
      kind: "stored",
      vectors: usable.map(({ vector }) => vector),
      own: Float64Array.from(usable, ({ id }) => id),
      shards: routedBy === "row" ? usable.map(({ shard }) => shard) : undefined,
    }
    if (routedBy === "row") return [stored]
    const near: Queries = {
      kind: "near",
      vectors: withNoise(stored.vectors, NOISE, seed),
      own: undefined,
      shards: undefined,
    }
    return given === undefined ? [stored, near] : [given, stored, near]
  }

  async function takeGiven(input: QueryInput): Promise<Queries> {
    if (routedBy === "row") {
      throw unsupported(
        `queries of snapshot ${snapshot.run} name their shards (strategy ${sharding.strategy}), so that vectors alone can't be searched for: leave them out to sample rows`,
        { strategy: sharding.strategy },
      )
    }
    const read = await readQueries(input, schema, signal)
    const count = read.length / schema.dim
    const vectors = Array.from({ length: count }, (_, i) =>
      read.subarray(i * schema.dim, (i + 1) * schema.dim),
    )
    return { kind: "given", vectors, own: undefined, shards: undefined }
  }

  /** The true neighbours of the queries of each kind, by one way through all rows. */
  async function truthsOf(
    kinds: readonly Queries[],
  ): Promise<readonly (readonly (readonly Neighbour[])[])[]> {
    const vectors = kinds.flatMap(({ vectors }) => vectors)
    const own = kinds.flatMap(({ own, vectors }) => Array.from(own ?? vectors.map(() => NO_ID)))
    const lists = await trueNeighbours(scan, schema, concat(vectors, schema.dim), Float64Array.from(own))
    let end = 0
    return kinds.map(({ vectors }) => {
      end += vectors.length
      return lists.slice(end - vectors.length, end)
    })
  }

  /** What each of `settings` finds for all queries. */
  async function searchAll<T>(
    queries: Queries,
    optionsOf: (setting: T) => SearchOptions,
    settings: readonly T[],
    k: number,
  ): Promise<readonly { keys: readonly (readonly number[])[]; asked: readonly (readonly number[])[] }[]> {
    const found: { keys: number[][]; asked: (readonly number[])[] }[] = []
    for (const setting of settings) {
      const keys: number[][] = []
      const asked: (readonly number[])[] = []
      for (const places of groupsOf(queries, AT_ONCE)) {
        const shard = queries.shards?.[places[0]!]
        const results = await reader.searchMany(
          places.map((place) => queries.vectors[place]!),
          {
            ...optionsOf(setting),
            ...(shard !== undefined && { shards: [shard] }),
            k,
            ...(signal && { signal }),
          },
        )
        for (const [i, { hits, shards }] of results.entries()) {
          const place = places[i]!
          keys[place] = hits
            .map(({ id }) => idKey(typeof id === "number" ? BigInt(id) : id))
            .filter((key) => key !== queries.own?.[place])
          asked[place] = shards.asked
        }
      }
      found.push({ keys, asked })
    }
    return found
  }

  async function measureTargets(): Promise<readonly EvaluatedKind[]> {
    const targets = options.targets ?? CERTIFIED_TARGETS
    try {
      const reached: EvaluatedKind[] = []
      for (const [at, queries] of kinds.entries()) {
        const { kind, own, vectors } = queries
        // As many as are asked for, since effort grows with them; a row finds itself besides.
        const k = TARGET_K + (own === undefined ? 0 : 1)
        const found = await searchAll(queries, (targetRecall) => ({ targetRecall }), targets, k)
        const figures = found.map(({ keys, asked }, i) =>
          targetFiguresOf(
            targets[i]!,
            sharesOf(truths[at]!, keys, TARGET_K),
            asked.map(({ length }) => length),
          ),
        )
        reached.push({ kind, count: vectors.length, targets: figures })
      }
      return [...reached, ...heldOut(certificate)]
    } catch (error) {
      if (options.targets === undefined && isVecsnapError(error, "Unsupported")) return []
      throw error
    }
  }
}

/** What the certificate says of rows that nothing else of the build has seen, if those were asked for. */
function heldOut(certificate: RecallCertificate | undefined): readonly EvaluatedKind[] {
  if (certificate?.queries.kind !== "rows") return []
  const { count, choosing = 0 } = certificate.queries
  return [{ kind: "held-out", count: count - choosing, targets: certificate.targets }]
}

/** Vectors like others, with noise so many times as long as they are. */
function withNoise(vectors: readonly Float32Array[], length: number, seed: number): Float32Array[] {
  const random = createRandom(seed)
  return vectors.map((vector) => {
    const squared = vector.reduce((sum, x) => sum + x * x, 0)
    const scale = length * Math.sqrt(squared / vector.length)
    return vector.map((x) => x + scale * random.gaussian())
  })
}

/** Places of queries that are searched for together: those of one shard, where shards are named. */
function groupsOf({ vectors, shards }: Queries, atOnce: number): readonly (readonly number[])[] {
  const byShard = new Map<number | undefined, number[]>()
  for (const place of vectors.keys()) {
    const shard = shards?.[place]
    byShard.set(shard, [...(byShard.get(shard) ?? []), place])
  }
  return [...byShard.values()].flatMap((places) =>
    Array.from({ length: Math.ceil(places.length / atOnce) }, (_, i) =>
      places.slice(i * atOnce, (i + 1) * atOnce),
    ),
  )
}

/** For each query the share of its `k` nearest that are among the first `k` hits. */
function sharesOf(
  truth: readonly (readonly Neighbour[])[],
  keys: readonly (readonly number[])[],
  k: number,
): Float64Array {
  return Float64Array.from(truth, (neighbours, query) => {
    const wanted = neighbours.slice(0, k)
    const hits = new Set(keys[query]!.slice(0, k))
    return wanted.length === 0 ? 1 : wanted.filter(({ id }) => hits.has(id)).length / wanted.length
  })
}

function compareWith(
  certificate: RecallCertificate,
  probes: readonly number[],
  curves: readonly RecallCurve[],
): readonly ComparedRecall[] {
  return curves.flatMap((curve) =>
    probes.flatMap((count, at): readonly ComparedRecall[] => {
      const certified = certifiedRecall(certificate, curve.k, count)
      if (certified === undefined || !certificate.probes.includes(count)) return []
      const measured = curve.recall[at]!
      const difference = Math.round(1e4 * (measured - certified.mean)) / 1e4
      const half = (low: number, high: number): number => (high - low) / 2
      const interval = Math.hypot(half(curve.low[at]!, curve.high[at]!), half(certified.low, certified.high))
      const agrees = Math.abs(difference) <= interval
      return [{ k: curve.k, probes: count, measured, certified: certified.mean, difference, agrees }]
    }),
  )
}

function concat(vectors: readonly Float32Array[], dim: number): Float32Array {
  const all = new Float32Array(vectors.length * dim)
  for (const [i, vector] of vectors.entries()) all.set(vector, i * dim)
  return all
}
