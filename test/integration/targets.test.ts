/** What searches for a target recall find, through cells, for queries of every kind. */
import { fileURLToPath } from "node:url"
import { beforeAll, describe, expect, it } from "vitest"
import { buildSnapshot, openSnapshot, openSource, openStore, type Reader, readLive } from "../../src/index.js"
import type { RecallCertificate } from "../../src/recall/curves.js"
import { createRandom } from "../../src/vectors/random.js"
import { allocateVectors, createScanTable, scanMany } from "../../src/vectors/scan.js"

const WORDS = fileURLToPath(new URL("../../../data/words.parquet", import.meta.url))
const TO = `memory://targets-${process.pid}`
/** Every tenth word is no row of the snapshot. */
const STRIDE = 10
const QUERIES = 500
const K = 10
/** Means of so many queries are off by so much, twice their standard error, whatever rule there is. */
const NOISE = 0.015
const OVERSHOOT = 0.015

interface Kind {
  readonly vectors: Float32Array
  /** Rows that are no neighbours of themselves. */
  readonly own: readonly number[] | undefined
}

let dim = 0
let rows: Float32Array
let unseen: Float32Array
let reader: Reader
let recall: RecallCertificate

const vectorOf = (vectors: Float32Array, row: number) => vectors.subarray(row * dim, (row + 1) * dim)

beforeAll(async () => {
  const kept: Float32Array[] = []
  const left: Float32Array[] = []
  const source = await openSource([WORDS])
  let seen = 0
  for await (const batch of source.read({})) {
    dim = batch.dim
    for (let row = 0; row < batch.rows; row++) {
      const vector = batch.vectors.slice(row * dim, (row + 1) * dim)
      if (seen++ % STRIDE === 0) left.push(vector)
      else kept.push(vector)
    }
  }
  const flat = (vectors: readonly Float32Array[]) => Float32Array.from(vectors.flatMap((v) => [...v]))
  rows = flat(kept)
  unseen = flat(left.slice(0, QUERIES))
  const records = kept.map((vector, id) => ({ id, vector }))
  const sharding = { strategy: "cluster", shards: 6, layout: "fast" } as const
  await buildSnapshot(records, { to: TO, metric: "cosine", sharding })
  const { manifest } = await readLive(openStore(TO))
  recall = manifest.recall!
  expect(manifest.sharding.options).toMatchObject({ effort: { targetRecall: 0.95 } })
  reader = await openSnapshot(TO)
  return () => reader.close()
}, 120_000)

const storedRows = Array.from({ length: QUERIES }, (_, i) => 7 + 17 * i)

const kinds: Readonly<Record<string, () => Kind>> = {
  "rows that are not stored": () => ({ vectors: unseen, own: undefined }),
  "stored rows": () => {
    const vectors = new Float32Array(QUERIES * dim)
    for (const [i, row] of storedRows.entries()) vectors.set(vectorOf(rows, row), i * dim)
    return { vectors, own: storedRows }
  },
  "vectors near stored rows": () => {
    const random = createRandom(5)
    const vectors = new Float32Array(QUERIES * dim)
    for (const [i, row] of storedRows.entries()) {
      const vector = vectorOf(rows, row)
      const length = Math.sqrt(vector.reduce((sum, x) => sum + x * x, 0))
      const noisy = vector.map((x) => x + ((0.3 * length) / Math.sqrt(dim)) * random.gaussian())
      vectors.set(noisy, i * dim)
    }
    return { vectors, own: undefined }
  },
}

function nearestTo({ vectors, own }: Kind): number[][] {
  const table = allocateVectors("cosine", rows.length / dim, dim)
  table.set(rows)
  const found = scanMany(createScanTable("cosine", table, dim), vectors, K + 1)
  return found.map(({ ranks }, i) => [...ranks].filter((row) => row !== own?.[i]).slice(0, K))
}

async function meanRecall(kind: Kind, options: { readonly targetRecall?: number }) {
  const nearest = nearestTo(kind)
  let found = 0
  for (const [i, wanted] of nearest.entries()) {
    const { hits } = await reader.search(vectorOf(kind.vectors, i), {
      k: kind.own === undefined ? K : K + 1,
      ...options,
    })
    const ids = hits.map(({ id }) => id).filter((id) => id !== kind.own?.[i])
    found += wanted.filter((row) => ids.slice(0, K).includes(row)).length / wanted.length
  }
  return found / nearest.length
}

describe("a target recall", () => {
  it.each(Object.keys(kinds))("is reached, and hardly exceeded, by %s", async (name) => {
    const kind = kinds[name]!()
    for (const target of [0.9, 0.95, 0.98]) {
      const reached = await meanRecall(kind, { targetRecall: target })
      expect(reached, `target ${target}`).toBeGreaterThanOrEqual(target - NOISE)
      expect(reached, `target ${target}`).toBeLessThanOrEqual(target + OVERSHOOT + NOISE)
    }
    // The default is a target, too.
    expect(await meanRecall(kind, {})).toBe(await meanRecall(kind, { targetRecall: 0.95 }))
  })

  it("is certified for the whole of a search, and looks at a part of the rows of its shards", () => {
    const { cells, targets } = recall
    // Of so few rows, those that choose may ask for all rows beyond.
    expect(cells?.targets.slice(0, 5)).toEqual([0.5, 0.7, 0.8, 0.9, 0.95])
    expect(cells?.stored?.count).toBeGreaterThan(200)
    for (const { target, rows: looked, probes, recall } of [...targets, ...cells!.stored!.targets]) {
      expect(looked).toBeLessThan((target < 0.98 ? 0.7 : 1.5) * probes * 1500)
      expect(Math.abs(recall - target - 0.0075)).toBeLessThan(0.0225)
    }
  })

  it("says what recall is to be expected, and finds all with 1", async () => {
    const vector = vectorOf(unseen, 0)
    const { expectedRecall } = await reader.search(vector, { targetRecall: 0.95 })
    expect(expectedRecall).toBeGreaterThanOrEqual(0.95)
    expect(await meanRecall({ vectors: unseen, own: undefined }, { targetRecall: 1 })).toBe(1)
  })

  it("is what health tells of", async () => {
    const { recall: told } = await reader.health()
    const { recall: mean, low, high, probes } = recall.targets[1]!
    expect(told).toEqual({ k: 10, mean, low, high, probes, target: 0.95 })
  })
})
