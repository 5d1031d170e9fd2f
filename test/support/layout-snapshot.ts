/** Snapshots with a layout, put together by hand: each shard is built by itself, so that copies of rows may lie in several. */
import type { VectorRecord } from "../../src/index.js"
import { buildSnapshot, openStore } from "../../src/index.js"
import { writeArtifacts } from "../../src/manifest/artifacts.js"
import { encodeManifest } from "../../src/manifest/codec.js"
import { readLive } from "../../src/manifest/current.js"
import { manifestKey } from "../../src/manifest/keys.js"
import type { ShardEntry } from "../../src/manifest/manifest.js"
import { publishManifest } from "../../src/manifest/publish.js"
import { createLayout, type Layout } from "../../src/sharding/cluster/layout/layout.js"
import type { ResolvedCluster } from "../../src/sharding/cluster/options.js"
import { fitPreparation, prepareRows } from "../../src/sharding/cluster/space/space.js"
import { createCluster } from "../../src/sharding/cluster/strategy.js"
import { resolveSharding } from "../../src/sharding/registry.js"
import type { Strategy } from "../../src/sharding/strategy.js"
import { createRandom } from "../../src/vectors/random.js"

export interface LayoutData {
  readonly dim: number
  readonly rows: Float32Array
  readonly held: Float32Array
  readonly queries: Float32Array
}

/** Rows, held-out rows and queries around the same centres. */
export function layoutData(
  rows: number,
  dim: number,
  { held = 300, queries = 100, seed = 1 } = {},
): LayoutData {
  const random = createRandom(seed)
  const centres = Float32Array.from({ length: 40 * dim }, () => random.gaussian())
  const draw = (count: number): Float32Array => {
    const drawn = new Float32Array(count * dim)
    for (let row = 0; row < count; row++) {
      const centre = random.below(40) * dim
      for (let i = 0; i < dim; i++) drawn[row * dim + i] = centres[centre + i]! + 0.6 * random.gaussian()
    }
    return drawn
  }
  return { dim, rows: draw(rows), held: draw(held), queries: draw(queries) }
}

export interface LayoutStrategy {
  readonly strategy: Strategy
  readonly layout: Layout
}

/** The strategy of a layout under cosine. */
export function layoutStrategy(
  { dim, rows, held }: LayoutData,
  shards: number,
  layout: "affinity" | "fast",
): LayoutStrategy {
  const preparation = fitPreparation(rows, dim, "cosine")
  const space = (vectors: Float32Array) => prepareRows(preparation, vectors.slice())
  const made = createLayout({ preparation, rows: space(rows), validation: space(held) }, { shards, layout })
  const resolved = resolveSharding({ strategy: "cluster", shards, layout }) as ResolvedCluster
  const centroids = { shape: [shards, dim], data: made.centroids }
  const strategy = createCluster(resolved, { dim, metric: "cosine", fields: [] }, centroids, made.routing)
  return { strategy, layout: made }
}

/** Ids are the numbers of the rows. Makes the snapshot `run` live, with each row in all of its shards. */
export async function publishLayout(
  url: string,
  run: string,
  { dim, rows }: LayoutData,
  { strategy, layout: { home, copies } }: LayoutStrategy,
): Promise<void> {
  const records: VectorRecord[][] = Array.from({ length: strategy.shards }, () => [])
  const put = (row: number, shard: number): void => {
    records[shard]!.push({ id: row, vector: rows.slice(row * dim, (row + 1) * dim), shard })
  }
  for (const [row, shard] of home.entries()) {
    put(row, shard)
    if (copies === undefined) continue
    for (let i = copies.start[row]!; i < copies.start[row + 1]!; i++) put(row, copies.shard[i]!)
  }
  const sharding = { strategy: "explicit", shards: strategy.shards } as const
  const store = openStore(url)
  const entries: ShardEntry[] = []
  for (const own of records) {
    if (own.length === 0) continue
    await buildSnapshot(own, { to: url, metric: "cosine", sharding })
    entries.push(...(await readLive(store)).manifest.shards)
  }
  const { manifest } = await readLive(store)
  const createdAt = new Date(manifest.createdAt.getTime() + 1)
  const whole = {
    ...manifest,
    run,
    createdAt,
    sharding: strategy.describe(),
    artifacts: await writeArtifacts(store, run, strategy.artifacts()),
    locator: undefined,
    shards: entries,
    rows: entries.reduce((sum, { rows: count }) => sum + count, 0),
  }
  const key = manifestKey(createdAt, run)
  await store.put(key, encodeManifest(whole))
  await publishManifest(store, key, whole, { action: "publish", expected: "any" })
}

/** Ids of the `k` rows with the largest cosine, best first. */
export function nearestIds({ dim, rows }: LayoutData, query: Float32Array, k: number): number[] {
  const cosine = (row: number): number => {
    let product = 0
    let squares = 0
    for (let i = 0; i < dim; i++) {
      product += rows[row * dim + i]! * query[i]!
      squares += rows[row * dim + i]! ** 2
    }
    return product / Math.sqrt(squares)
  }
  return Array.from({ length: rows.length / dim }, (_, row) => ({ row, cosine: cosine(row) }))
    .sort((a, b) => b.cosine - a.cosine)
    .slice(0, k)
    .map(({ row }) => row)
}
