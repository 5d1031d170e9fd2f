/** The peer of the benchmarks: one LanceDB table of all rows, with an IVF_FLAT index. */
import { connect, Index, Session, type Table } from "@lancedb/lancedb"
import { Table as ArrowTable } from "apache-arrow"
import type { StoreOptions } from "../src/index.js"
import { toArrow } from "./arrow.js"
import { recall } from "./support.js"
import { vectorOf, type Words } from "./words.js"

/** The ids of the k nearest. */
export type Search = (query: Float32Array) => Promise<readonly string[]>

/** LanceDB's caches are bounded, but hold all of such a table. */
const INDEX_CACHE_BYTES = 1024n * 2n ** 20n
const METADATA_CACHE_BYTES = 128n * 2n ** 20n

/** Searches so many partitions of the index. */
export type Peer = (partitions: number) => Search

/** Makes the table of the rows `kept` at `url` and its index of `partitions` partitions. */
export async function buildPeer(
  words: Words,
  kept: readonly number[],
  url: string,
  partitions: number,
  store: StoreOptions = {},
): Promise<void> {
  const db = await connect(url, connectionOptions(store))
  const vectors = new Float32Array(kept.length * words.dim)
  for (const [i, row] of kept.entries()) vectors.set(vectorOf(words, row), i * words.dim)
  const rows = toArrow(
    kept.map((row) => words.ids[row]!),
    vectors,
    words.dim,
  )
  const table = await db.createTable("words", new ArrowTable([rows]))
  await table.createIndex("vector", {
    config: Index.ivfFlat({ numPartitions: partitions, distanceType: "cosine" }),
  })
  table.close()
  db.close()
}

/** Opens the table of {@link buildPeer}, whose searches answer with the nearest `k`. */
export async function openPeer(url: string, k: number, store: StoreOptions = {}): Promise<Peer> {
  const db = await connect(url, connectionOptions(store))
  return searchesOf(await db.openTable("words"), k)
}

function searchesOf(table: Table, k: number): Peer {
  return (partitions) => async (query) => {
    // As Arrow: objects row by row cost the peer time that it does not need.
    const found = await table
      .vectorSearch(query)
      .distanceType("cosine")
      .nprobes(partitions)
      .select(["id", "_distance"])
      .limit(k)
      .toArrow()
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

export interface TunedPeer {
  readonly partitions: number
  /** What it reached with the queries that it was tuned with. */
  readonly reached: number
  readonly search: Search
}

/** The fewest partitions with which the peer reaches a recall. */
export async function tunePeer(
  peer: Peer,
  queries: readonly Float32Array[],
  truth: readonly (readonly string[])[],
  wanted: number,
): Promise<TunedPeer> {
  const reachedWith = async (partitions: number): Promise<number> => {
    const search = peer(partitions)
    const ids: (readonly string[])[] = []
    for (const query of queries) ids.push(await search(query))
    return recall(ids, truth)
  }
  // Recall rises with the number of partitions: doubled until it suffices, then halved in between.
  let [tooFew, enough, reached] = [0, 8, await reachedWith(8)]
  while (reached < wanted) {
    tooFew = enough
    enough *= 2
    reached = await reachedWith(enough)
  }
  while (enough - tooFew > 1) {
    const middle = (tooFew + enough) >> 1
    const reachedThere = await reachedWith(middle)
    if (reachedThere < wanted) tooFew = middle
    else [enough, reached] = [middle, reachedThere]
  }
  return { partitions: enough, reached, search: peer(enough) }
}
