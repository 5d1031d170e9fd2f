import { readdir, rm } from "node:fs/promises"
import { join } from "node:path"
import { isVecsnapError, messageOf, unavailable, unsupported } from "../../errors.js"
import type { Id } from "../../records.js"
import { inverseNorms } from "../../vectors/distance.js"
import { createScanTable, scan } from "../../vectors/scan.js"
import type { IndexDescription, ShardRows, ShardSpec } from "../backend.js"
import { checkEmptyDirectory, checkRows } from "../checks.js"
import { type IndexOptions, type IndexOptionTable, resolveIndexOptions } from "../options.js"
import { type OpenTable, openTable } from "./open.js"
import { type Arrow, type LanceDb, loadArrow, loadLanceDb } from "./packages.js"
import { METADATA_CACHE_BYTES } from "./pool.js"
import { arrowBatch, arrowSchema, INDEX, LENGTH_MAX, LENGTH_MIN, TABLE, tableDir } from "./schema.js"
import { searchTable } from "./search.js"

/** Shards without these options are indexed by their defaults. */
export const INDEX_OPTIONS = {
  // Up to the default one partition is about as fast as several with a recall worth having.
  exactRowsMax: {
    about: "rows up to which a shard has one partition, so that searches of it are exact",
    least: 0,
    most: 2 ** 31,
    default: 50_000,
  },
  rowsPerPartition: {
    about: "rows of a partition, about, in a larger shard",
    least: 1,
    most: 2 ** 31,
    default: 4096,
  },
} as const satisfies IndexOptionTable
/** Recall inside the shard below which more partitions are probed. */
const RECALL_TARGET = 0.99
const RECALL_QUERIES = 128
const RECALL_K = 10
/** Vectors handed to LanceDB at once: it holds two more copies of them meanwhile. */
const BATCH_BYTES = 64 * 2 ** 20
const INDEX_TIMEOUT_SECONDS = 24 * 3600

/**
 * Writes a LanceDB database with one table and one index into `dir`. The files differ from build to build:
 * LanceDB names them at random.
 */
export async function buildShard(
  rows: ShardRows,
  dir: string,
  spec: ShardSpec,
  options?: IndexOptions,
): Promise<IndexDescription> {
  const { exactRowsMax, rowsPerPartition } = resolveIndexOptions("lancedb", INDEX_OPTIONS, options)
  const lancedb = await loadLanceDb()
  const arrow = await loadArrow()
  await checkEmptyDirectory(dir)
  checkRows(rows, spec)
  const longest = checkLengths(rows, spec)
  const partitions = rows.rows <= exactRowsMax ? 1 : Math.ceil(rows.rows / rowsPerPartition)
  try {
    await writeTable(lancedb, arrow, rows, dir, spec, partitions)
    await pruneTable(dir)
  } catch (cause) {
    if (isVecsnapError(cause)) throw cause
    const reason = messageOf(cause)
    throw unavailable(`${tableDir(dir)} could not be written: ${reason}`, { dir }, cause)
  }
  const maxNorm = spec.metric === "dot" ? { maxNorm: longest } : {}
  const index = { kind: "ivf_flat", partitions, probes: 1, ...maxNorm }
  // A session of its own, so that the files are read again as any reader will, and not from a cache.
  const session = new lancedb.Session(BigInt(rows.vectors.byteLength), BigInt(METADATA_CACHE_BYTES))
  const shard = await openTable(lancedb, session, dir, spec, index)
  try {
    return partitions === 1 ? index : { ...index, ...(await chooseProbes(shard, rows)) }
  } finally {
    shard.close()
  }
}

async function writeTable(
  lancedb: LanceDb,
  arrow: Arrow,
  rows: ShardRows,
  dir: string,
  spec: ShardSpec,
  numPartitions: number,
): Promise<void> {
  const schema = arrowSchema(arrow, spec)
  const batchRows = Math.max(1, Math.floor(BATCH_BYTES / (spec.dim * 4)))
  const connection = await lancedb.connect(dir)
  try {
    const table = await connection.createEmptyTable(TABLE, schema)
    for (let start = 0; start < rows.rows; start += batchRows) {
      const end = Math.min(start + batchRows, rows.rows)
      await table.add(new arrow.Table([arrowBatch(arrow, schema, rows, spec, start, end)]))
    }
    await table.createIndex("vector", {
      config: lancedb.Index.ivfFlat({ numPartitions, distanceType: spec.metric }),
      name: INDEX,
      replace: false,
      waitTimeoutSeconds: INDEX_TIMEOUT_SECONDS,
    })
    table.close()
  } finally {
    connection.close()
  }
}

/** Removes what only later changes to the table would need: the log of transactions and older versions. */
async function pruneTable(dir: string): Promise<void> {
  const file = tableDir(dir)
  const versions = join(file, "_versions")
  // Named 2^64 - 1 - version, with leading zeros: the newest comes first.
  const [newest, ...others] = (await readdir(versions)).sort()
  if (newest === undefined || !/^\d{20}\.manifest$/.test(newest)) {
    throw new Error(`expected a manifest named by 20 digits in ${versions}, got ${newest}`)
  }
  await rm(join(file, "_transactions"), { recursive: true, force: true })
  for (const name of others) await rm(join(versions, name))
}

/**
 * The length of the longest vector. Throws `Unsupported`, naming the record, if LanceDB cannot index one of
 * them.
 */
function checkLengths(rows: ShardRows, spec: ShardSpec): number {
  let longest = 0
  inverseNorms(rows.vectors, spec.dim).forEach((inverse, row) => {
    const length = inverse === 0 ? 0 : 1 / inverse
    longest = Math.max(longest, length)
    if (length > LENGTH_MAX || (spec.metric === "cosine" && length < LENGTH_MIN)) {
      throw unsupported(
        `lancedb cannot index the vector of record ${JSON.stringify(String(rows.ids.values[row]))}: its length is ${length}, ` +
          `expected ${LENGTH_MIN} to ${LENGTH_MAX}; scale the vectors or use sqlite-vec`,
        { id: rows.ids.values[row], length },
      )
    }
  })
  return longest
}

/** A row as a query, and the ids of its nearest other rows. */
interface RecallQuery {
  readonly vector: Float32Array
  readonly nearest: readonly Id[]
}

/** The fewest partitions to probe, by doubling, that reach the recall target; all of them are exact. */
async function chooseProbes(
  shard: OpenTable,
  rows: ShardRows,
): Promise<{ readonly probes: number; readonly recall: number }> {
  const { partitions } = shard.index
  const queries = recallQueries(rows, shard.spec)
  for (let probes = 1; probes < partitions; probes *= 2) {
    const recall = await measureRecall({ ...shard, index: { ...shard.index, probes } }, queries)
    if (recall >= RECALL_TARGET) return { probes, recall }
  }
  return { probes: partitions, recall: 1 }
}

/** Rows spread evenly over the shard, with their true neighbours. */
function recallQueries(rows: ShardRows, spec: ShardSpec): RecallQuery[] {
  const table = createScanTable(spec.metric, rows.vectors, spec.dim)
  const count = Math.min(RECALL_QUERIES, rows.rows)
  return Array.from({ length: count }, (_, i) => {
    const row = Math.floor((i * rows.rows) / count)
    const vector = rows.vectors.slice(row * spec.dim, (row + 1) * spec.dim)
    // The row itself is left out: it is found whatever the index is worth.
    const others = scan(table, vector, RECALL_K + 1).ranks.filter((rank) => rank !== row)
    return { vector, nearest: Array.from(others.subarray(0, RECALL_K), (rank) => rows.ids.values[rank]!) }
  })
}

/** Mean share of the true neighbours that a search finds. */
async function measureRecall(shard: OpenTable, queries: readonly RecallQuery[]): Promise<number> {
  let wanted = 0
  let found = 0
  for (const { vector, nearest } of queries) {
    const hits = new Set<Id>((await searchTable(shard, vector, RECALL_K + 1)).ids)
    wanted += nearest.length
    found += nearest.filter((id) => hits.has(id)).length
  }
  return found / wanted
}
