import type { Metric, VectorRecord } from "../../src/index.js"

/** A small seeded generator (mulberry32), so that tests repeat exactly. */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), state | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

const LANGUAGES = ["de", "en", "fr", "日本"]

/** Clustered vectors with fields and payloads of many shapes. Ids are `id-<n>`, or integers around 2^53. */
export function makeRecords(
  count: number,
  {
    dim = 16,
    ids = "string",
    seed = 7,
    shards = 4,
  }: { dim?: number; ids?: "string" | "int" | "wide"; seed?: number; shards?: number } = {},
): VectorRecord[] {
  const random = seededRandom(seed)
  const centers = Array.from({ length: 8 }, () => Array.from({ length: dim }, () => random() * 2 - 1))
  return Array.from({ length: count }, (_, n) => {
    const center = centers[n % centers.length]!
    return {
      id: ids === "string" ? `id-${n}` : ids === "int" ? n - 5 : 2n ** 53n + BigInt(n) * 3n,
      vector: Float32Array.from(center, (x) => x + (random() - 0.5) * 0.6),
      fields: {
        lang: LANGUAGES[n % 4]!,
        year: 1990 + (n % 30),
        score: n % 11 === 0 ? null : random(),
        live: n % 2 === 0,
      },
      payload:
        n % 5 === 0
          ? null
          : { n, title: `réc "${n}"`, tags: ["a", null, { deep: [n] }], big: 9007199254740993n },
      shard: n % shards,
    }
  })
}

export const FIELDS = { lang: "string", year: "int64", score: "float64", live: "bool" } as const

/** The public distance, by the plainest code there is; independent of the kernel. */
export function plainDistance(metric: Metric, a: ArrayLike<number>, b: ArrayLike<number>): number {
  let dot = 0
  let aa = 0
  let bb = 0
  let squares = 0
  for (let i = 0; i < a.length; i++) {
    dot += a[i]! * b[i]!
    aa += a[i]! * a[i]!
    bb += b[i]! * b[i]!
    squares += (a[i]! - b[i]!) ** 2
  }
  if (metric === "cosine") return 1 - dot / Math.sqrt(aa * bb)
  return metric === "l2" ? Math.sqrt(squares) : -dot
}

/** The nearest `k` of the records, by plain distances. */
export function bruteForce(
  records: readonly VectorRecord[],
  metric: Metric,
  query: ArrayLike<number>,
  k: number,
): { id: VectorRecord["id"]; distance: number }[] {
  return records
    .map(({ id, vector }) => ({ id, distance: plainDistance(metric, query, vector) }))
    .sort((a, b) => a.distance - b.distance)
    .slice(0, k)
}
