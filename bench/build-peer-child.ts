/**
 * Builds one LanceDB table with one index over the rows of a file, in a process of its own. Takes a JSON
 * request as its argument, prints a JSON answer.
 */
import { connect, Index } from "@lancedb/lancedb"
import { type RecordBatch, Table } from "apache-arrow"
import { openSource } from "../src/index.js"
import { toArrow } from "./arrow.js"

export type PeerIndex = "IVF_FLAT" | "IVF_PQ" | "HNSW_SQ"

export interface PeerRequest {
  readonly input: string
  readonly dir: string
  readonly index: PeerIndex
  /** Of the IVF indexes; HNSW_SQ takes LanceDB's own number. */
  readonly partitions: number
  /** Of IVF_PQ. */
  readonly subVectors: number
}

/** Vectors handed over at once: fewer, larger fragments of the table. */
const ADD_BYTES = 64 * 2 ** 20

const request: PeerRequest = JSON.parse(process.argv[2]!)
const start = performance.now()
const connection = await connect(request.dir)
const source = await openSource([request.input])
let table: Awaited<ReturnType<typeof connection.createEmptyTable>> | undefined
let pending: RecordBatch[] = []
let pendingBytes = 0
for await (const { dim, ids, vectors } of source.read({})) {
  const rows = toArrow(ids.values as readonly string[], vectors, dim)
  table ??= await connection.createEmptyTable("rows", rows.schema)
  pending.push(rows)
  pendingBytes += vectors.byteLength
  if (pendingBytes >= ADD_BYTES) await add()
}
if (pending.length > 0) await add()
const readMs = performance.now() - start
const { partitions: numPartitions, subVectors: numSubVectors } = request
const config = {
  IVF_FLAT: () => Index.ivfFlat({ distanceType: "cosine", numPartitions }),
  IVF_PQ: () => Index.ivfPq({ distanceType: "cosine", numPartitions, numSubVectors }),
  HNSW_SQ: () => Index.hnswSq({ distanceType: "cosine" }),
}[request.index]()
await table!.createIndex("vector", { config, waitTimeoutSeconds: 3600 })
const totalMs = performance.now() - start
// In KiB on Linux; over all threads of the process.
const { maxRSS, userCPUTime, systemCPUTime } = process.resourceUsage()
const cpuSeconds = (userCPUTime + systemCPUTime) / 1e6
console.log(JSON.stringify({ readMs, totalMs, cpuSeconds, peakBytes: maxRSS * 1024 }))

async function add(): Promise<void> {
  await table!.add(new Table(pending))
  pending = []
  pendingBytes = 0
}
