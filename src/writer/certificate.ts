/** What the recall certificate of a build is measured with, and the step that measures it. */
import { type Certified, certify, createNeighbourLists, type NeighbourLists } from "../recall/certificate.js"
import type { RecallCertificate } from "../recall/curves.js"
import type { Strategy } from "../sharding/strategy.js"
import { inSharedMemory } from "../vectors/shared-memory.js"
import { type Job, seedOf } from "./job.js"
import { choosingRows, type SampledLayout, strategyByQueries } from "./layout/thresholds.js"
import type { Trained } from "./layout/train.js"
import { splitGivenQueries } from "./rows/given-queries.js"
import type { HeldOutRow } from "./rows/hold-out.js"
import type { Duplicates } from "./rows/id-log.js"
import type { Partition } from "./rows/partition.js"

/** Queries to measure recall with, and the lists of their nearest rows, which the shards fill. */
export type AskedQueries = Pick<Certified, "queries" | "vectors" | "homes"> & {
  /** Of rows: what tells them from others. */
  readonly own: Float64Array | undefined
  readonly neighbours: NeighbourLists
}

/** The queries that recall is measured with: real ones, or held-out rows; undefined if it is not. */
export async function certificateQueries(
  job: Job,
  trained: Trained | undefined,
  heldOut: readonly HeldOutRow[],
  { schema: { dim } }: Partition,
  duplicates: Duplicates,
): Promise<AskedQueries | undefined> {
  const { options, sharding } = job
  const seed = seedOf(sharding)
  if (options.certificateRows === 0) return undefined
  if (options.queries !== undefined) {
    const split = trained?.queries ?? (await splitGivenQueries(job, dim, false))!
    const vectors = inSharedMemory(split.measuring)
    const count = vectors.length / dim
    const demand = split.demand.length / dim
    const queries = {
      kind: "given",
      count,
      seed,
      ...(demand > 0 && { demand }),
      ...(trained?.queries && { choseThresholds: true }),
    } as const
    return { queries, vectors, own: undefined, homes: undefined, neighbours: createNeighbourLists(count) }
  }
  // A row that lost against another one with its id is none of the snapshot.
  const rows = heldOut.filter(({ shard, position }) => !duplicates.drop.get(shard)?.has(position))
  if (rows.length === 0) return undefined
  const choosing = trained?.sampled && choosingRows(rows.length)
  const vectors = new Float32Array(new SharedArrayBuffer(4 * rows.length * dim))
  for (const [i, { vector }] of rows.entries()) vectors.set(vector, i * dim)
  return {
    queries: { kind: "rows", count: rows.length, seed, ...(choosing !== undefined && { choosing }) },
    vectors,
    own: Float64Array.from(rows, ({ id }) => id),
    homes: rows.map(({ shard }) => shard),
    neighbours: createNeighbourLists(rows.length),
  }
}

/**
 * Measures recall, if that is asked for, by the strategy that placed the rows, or by that with thresholds
 * chosen now.
 */
export async function certified(
  job: Job,
  asked: AskedQueries | undefined,
  built: Pick<Certified, "shards" | "rows"> & {
    readonly placedBy: Strategy
    readonly sampled: SampledLayout | undefined
  },
): Promise<{ readonly strategy: Strategy; readonly recall: RecallCertificate | undefined }> {
  const { placedBy, sampled, shards, rows } = built
  if (asked === undefined) return { strategy: placedBy, recall: undefined }
  return job.clock.time("certificate", async () => {
    const strategy = (sampled && (await strategyByQueries(sampled, { ...asked, shards }))) ?? placedBy
    const dim = asked.vectors.length / asked.queries.count
    const recall = await certify({ ...asked, strategy, dim, shards, rows, notes: routingNotes(job) })
    return { strategy, recall }
  })
}

/** What is to be said of a snapshot's recall besides how it was measured. */
const routingNotes = ({ options }: Job): readonly string[] =>
  options.routingFrom === undefined
    ? []
    : [
        "the routing is that of another snapshot, which may have learned from the rows that were held out here",
      ]
