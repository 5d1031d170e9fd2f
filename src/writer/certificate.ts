/** What the recall certificate of a build is measured with, and the step that measures it. */
import { inLanes } from "../async/lanes.js"
import type { ShardEntry } from "../manifest/manifest.js"
import { mostBest } from "../recall/cells/learn.js"
import { createCellSearches, type ShardCellsFile } from "../recall/cells/looked-at.js"
import { type Certified, certify, createNeighbourLists, type NeighbourLists } from "../recall/certificate.js"
import type { RecallCertificate } from "../recall/curves.js"
import { NO_ID } from "../recall/id-key.js"
import type { Strategy } from "../sharding/strategy.js"
import { backendByName } from "../shards/registry.js"
import { readVerified } from "../snapshot/content.js"
import { shardFiles } from "../snapshot/snapshot.js"
import type { SnapshotCodes } from "../vectors/cells/codebook.js"
import { type Job, seedOf } from "./job.js"
import { choosingRows, type SampledLayout, strategyByQueries } from "./layout/thresholds.js"
import type { Trained } from "./layout/train.js"
import { splitGivenQueries } from "./rows/given-queries.js"
import type { HeldOutRow } from "./rows/hold-out.js"
import type { Duplicates } from "./rows/id-log.js"
import type { Partition } from "./rows/partition.js"

/**
 * Queries to measure recall with, then stored rows, and the lists of their nearest rows, which the shards
 * fill.
 */
export type AskedQueries = Pick<Certified, "queries" | "vectors" | "homes"> & {
  /** Of rows: what tells them from others; of real queries: no row's. */
  readonly own: Float64Array | undefined
  readonly neighbours: NeighbourLists
}

/** Stored rows that are asked for, besides held-out rows or real queries, for each of the former. */
const STORED_SHARE = 0.5

/** Rows to be collected by which stored rows are known. */
export const storedRowsWanted = ({ options }: Pick<Job, "options">): number =>
  Math.ceil(STORED_SHARE * options.certificateRows)

/** Rows of the snapshot by which its recall may be measured. */
export interface DrawnQueries {
  readonly heldOut: readonly HeldOutRow[]
  readonly stored: readonly HeldOutRow[]
}

/**
 * The queries that recall is measured with: real ones, or held-out rows; undefined if it is not. `hasCodes`:
 * whether what targets look at in shards is to be learned, too.
 */
export async function certificateQueries(
  job: Job,
  trained: Trained | undefined,
  drawn: DrawnQueries,
  { schema: { dim } }: Partition,
  duplicates: Duplicates,
  hasCodes: boolean,
): Promise<AskedQueries | undefined> {
  const { options, sharding } = job
  const seed = seedOf(sharding)
  if (options.certificateRows === 0) return undefined
  // A row that lost against another one with its id is none of the snapshot.
  const isThere = ({ shard, position }: HeldOutRow) => !duplicates.drop.get(shard)?.has(position)
  const stored = hasCodes ? drawn.stored.filter(isThere) : []
  if (options.queries !== undefined) {
    const split = trained?.queries ?? (await splitGivenQueries(job, dim, false))!
    const count = split.measuring.length / dim
    const demand = split.demand.length / dim
    const queries = {
      kind: "given",
      count,
      seed,
      ...(demand > 0 && { demand }),
      ...(trained?.queries && { choseThresholds: true }),
    } as const
    return {
      queries,
      vectors: sideBySide(split.measuring, stored, dim),
      own: Float64Array.from({ length: count + stored.length }, (_, i) => stored[i - count]?.id ?? NO_ID),
      homes: undefined,
      neighbours: createNeighbourLists(count + stored.length),
    }
  }
  const rows = drawn.heldOut.filter(isThere)
  if (rows.length === 0) return undefined
  const choosing = (hasCodes || trained?.sampled) && choosingRows(rows.length)
  const all = [...rows, ...stored]
  return {
    queries: { kind: "rows", count: rows.length, seed, ...(choosing && { choosing }) },
    vectors: sideBySide(new Float32Array(0), all, dim),
    own: Float64Array.from(all, ({ id }) => id),
    homes: all.map(({ shard }) => shard),
    neighbours: createNeighbourLists(all.length),
  }
}

/** Vectors and those of some rows, in memory that threads share. */
function sideBySide(vectors: Float32Array, rows: readonly HeldOutRow[], dim: number): Float32Array {
  const all = new Float32Array(new SharedArrayBuffer(4 * (vectors.length + rows.length * dim)))
  all.set(vectors)
  for (const [i, { vector }] of rows.entries()) all.set(vector, vectors.length + i * dim)
  return all
}

/** What has been built, and with what. */
export interface BuiltShards extends Pick<Certified, "rows"> {
  readonly shards: readonly ShardEntry[]
  readonly placedBy: Strategy
  readonly sampled: SampledLayout | undefined
  /** Absent if shards have no cells. */
  readonly codes: SnapshotCodes | undefined
}

/**
 * Measures recall, if that is asked for, by the strategy that placed the rows, or by that with thresholds
 * chosen now.
 */
export async function certified(
  job: Job,
  asked: AskedQueries | undefined,
  built: BuiltShards,
): Promise<{ readonly strategy: Strategy; readonly recall: RecallCertificate | undefined }> {
  const { placedBy, sampled, shards, rows } = built
  if (asked === undefined) return { strategy: placedBy, recall: undefined }
  return job.clock.time("certificate", async () => {
    const strategy = (sampled && (await strategyByQueries(sampled, { ...asked, shards }))) ?? placedBy
    const cells = await cellSearches(job, built)
    // Where no half of the queries can be spared, all of them choose what targets look at.
    const all = cells !== undefined && asked.queries.choosing === undefined
    const queries = all ? { ...asked.queries, choseThresholds: true } : asked.queries
    const dim = built.codes?.codebook.space.dim ?? asked.vectors.length / asked.queries.count
    const notes = routingNotes(job)
    const recall = await certify({ ...asked, queries, strategy, dim, shards, rows, cells, notes })
    return { strategy, recall }
  })
}

/**
 * Searches of what was built, by the files of cells, which are read back from the store, those of reused
 * shards among them. Undefined if shards have none, or if `memoryLimit` holds too little.
 */
async function cellSearches(
  { store, options, signal }: Job,
  { shards, codes }: BuiltShards,
): Promise<Certified["cells"]> {
  if (codes === undefined) return undefined
  const { cellsFile } = backendByName(options.backend)
  const filesOf = (shard: ShardEntry) => shardFiles(shard).filter(({ name }) => name === cellsFile)
  const files = shards.flatMap((shard) => filesOf(shard).map((file) => ({ ...file, shard: shard.shard })))
  const bytes = files.reduce((sum, { size }) => sum + size, 0)
  // Once as read, once in the memory of the kernels.
  if (files.length < shards.length || 2 * bytes > options.memoryLimit) return undefined
  const read: ShardCellsFile[] = []
  await inLanes(
    files,
    READS_AT_ONCE,
    async ({ shard, ...file }, signal) => {
      read.push({ shard, cells: await readVerified(store, file, { signal }) })
    },
    signal,
  )
  read.sort((a, b) => a.shard - b.shard)
  const { codebook } = codes
  const searches = createCellSearches(codebook, read, mostBest(codebook.best))
  return searches && { searches, best: codebook.best }
}

/** Files of cells that are read at the same time. */
const READS_AT_ONCE = 8

/** What is to be said of a snapshot's recall besides how it was measured. */
const routingNotes = ({ options }: Job): readonly string[] =>
  options.routingFrom === undefined
    ? []
    : [
        "the routing is that of another snapshot, which may have learned from the rows that were held out here",
      ]
