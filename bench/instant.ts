/** A backend whose shards answer at once, with ten hits a query between them: what is left is the reader. */
import type { ShardAnswer, ShardBackend, ShardHit, ShardReader } from "../src/shards/backend.js"
import { backend as memoryArray } from "../test/support/memory-array.js"

const HITS = 10
const HIT: ShardHit = { id: "", distance: 0, fields: {}, payload: null }

/** Of so many shards, asked together. */
function answersOf(shards: number): readonly ShardAnswer[] {
  const hits = Array.from({ length: shards }, (): ShardHit[] => [])
  for (let n = 0; n < HITS; n++) hits[n % shards]!.push({ ...HIT, id: `r${n}`, distance: n })
  return hits.map((own) => ({ hits: own }))
}

/** Found under this name by `registerBackend`. */
export const backend: ShardBackend<"instant"> = {
  ...memoryArray,
  name: "instant",
  createPool() {
    const prepared = new Map<number, readonly ShardAnswer[]>()
    return {
      open: async (): Promise<ShardReader> => ({
        rows: 1,
        bytes: 0,
        search: async () => [],
        get: async (ids) => ids.map(() => undefined),
        async *records() {},
        async close() {},
      }),
      async search(shards) {
        const known = prepared.get(shards.length) ?? answersOf(shards.length)
        prepared.set(shards.length, known)
        return known
      },
      async close() {},
    }
  },
}
