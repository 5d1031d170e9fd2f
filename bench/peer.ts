/** The peer of the benchmarks: LanceDB tables of all rows, with an index each. */
import { connect, Index, Session, type Table } from "@lancedb/lancedb"
import { Table as ArrowTable } from "apache-arrow"
import type { StoreOptions } from "../src/index.js"
import { toArrow } from "./arrow.js"
import type { PeerRequest } from "./build-peer-child.js"
import { type Found, recall } from "./support.js"

/** The ids of the k nearest. */
export type Search = (query: Float32Array) => Promise<readonly string[]>

/** LanceDB's caches are bounded, but hold all of such a table. */
const INDEX_CACHE_BYTES = 1024n * 2n ** 20n
const METADATA_CACHE_BYTES = 128n * 2n ** 20n

export interface PeerIndex {
  readonly kind: PeerRequest["index"]
  readonly partitions: number
}

/** Dimensions that IVF_PQ puts into one byte. */
const DIMENSIONS_PER_CODE = 4

/**
 * Searches with so much effort: so many partitions of an IVF index, or so many candidates of a graph ("ef").
 */
export type Peer = (effort: number) => Search

/** Rows as the peer gets them: `ids.length × dim`. */
export interface PeerRows {
  readonly ids: readonly string[]
  readonly vectors: Float32Array
  readonly dim: number
}

/** Makes the table of the rows at `url`, and its index. */
export async function buildPeer(
  { ids, vectors, dim }: PeerRows,
  url: string,
  { kind, partitions: numPartitions }: PeerIndex,
  store: StoreOptions = {},
): Promise<void> {
  const db = await connect(url, connectionOptions(store))
  const table = await db.createTable("rows", new ArrowTable([toArrow(ids, vectors, dim)]))
  const distanceType = "cosine"
  const config = {
    IVF_FLAT: () => Index.ivfFlat({ distanceType, numPartitions }),
    IVF_PQ: () =>
      Index.ivfPq({ distanceType, numPartitions, numSubVectors: Math.ceil(dim / DIMENSIONS_PER_CODE) }),
    HNSW_SQ: () => Index.hnswSq({ distanceType, numPartitions }),
  }[kind]()
  await table.createIndex("vector", { config, waitTimeoutSeconds: 3600 })
  table.close()
  db.close()
}

export interface PeerSearch {
  readonly kind: PeerRequest["index"]
  readonly k: number
  /** Distances computed from the vectors themselves, for so many times k; default: none. */
  readonly refine?: number | undefined
}

/** Opens the table of {@link buildPeer}. */
export async function openPeer(url: string, how: PeerSearch, store: StoreOptions = {}): Promise<Peer> {
  const db = await connect(url, connectionOptions(store))
  return searchesOf(await db.openTable("rows"), how)
}

function searchesOf(table: Table, { kind, k, refine }: PeerSearch): Peer {
  return (effort) => async (query) => {
    let search = table.vectorSearch(query).distanceType("cosine")
    search =
      kind === "HNSW_SQ" ? search.nprobes(1).ef(Math.max(effort, k * (refine ?? 1))) : search.nprobes(effort)
    if (refine !== undefined) search = search.refineFactor(refine)
    // As Arrow: objects row by row cost the peer time that it does not need.
    const found = await search.select(["id", "_distance"]).limit(k).toArrow()
    return found.getChild("id")!.toArray() as readonly string[]
  }
}

function connectionOptions({ s3 }: StoreOptions) {
  const session = new Session(INDEX_CACHE_BYTES, METADATA_CACHE_BYTES)
  if (s3?.endpoint === undefined || typeof s3.credentials !== "object") return { session }
  const storageOptions = {
    awsEndpoint: s3.endpoint,
    awsRegion: s3.region ?? "us-east-1",
    awsAccessKeyId: s3.credentials.accessKeyId,
    awsSecretAccessKey: s3.credentials.secretAccessKey,
    allowHttp: "true",
  }
  return { session, storageOptions }
}

export interface Tuned {
  readonly effort: number
  /** What was reached with the queries that it was tuned with. */
  readonly reached: number
}

/** Where twice the effort finds less than this share more, no effort will find what is wanted. */
const RISE = 0.0005
/** An effort up to here may be raised by the peer itself, to what its answers take at least. */
const LOW = 64

/**
 * The least effort that reaches a recall, which does not fall as effort grows; `undefined` if `most` does
 * not, or if it does not rise any more.
 */
export async function leastEffort(
  reachedWith: (effort: number) => Promise<number>,
  wanted: number,
  most: number,
): Promise<Tuned | undefined> {
  // Doubled until it suffices, then halved in between.
  let [tooLittle, enough] = [0, Math.min(8, most)]
  let reached = await reachedWith(enough)
  while (reached < wanted) {
    if (enough >= most) return undefined
    const before = reached
    tooLittle = enough
    enough = Math.min(2 * enough, most)
    reached = await reachedWith(enough)
    // Codes that are too coarse stay so, however many of them are looked at.
    if (reached < wanted && reached - before < RISE && enough > LOW) return undefined
  }
  while (enough - tooLittle > 1) {
    const middle = (tooLittle + enough) >> 1
    const reachedThere = await reachedWith(middle)
    if (reachedThere < wanted) tooLittle = middle
    else [enough, reached] = [middle, reachedThere]
  }
  return { effort: enough, reached }
}

/** {@link leastEffort} of the peer. */
export const tunePeer = (
  peer: Peer,
  queries: readonly Float32Array[],
  truth: Found["ids"],
  wanted: number,
  most: number,
): Promise<Tuned | undefined> =>
  leastEffort(async (effort) => recall(await findAll(peer(effort), queries), truth), wanted, most)

/** Asks all queries, some at a time. */
export async function findAll(search: Search, queries: readonly Float32Array[]): Promise<Found["ids"]> {
  const found: (readonly string[])[] = []
  let next = 0
  const client = async (): Promise<void> => {
    while (next < queries.length) {
      const place = next++
      found[place] = await search(queries[place]!)
    }
  }
  await Promise.all(Array.from({ length: 4 }, client))
  return found
}
