/**
 * What a reader itself costs per query, whatever searches its shards: all are open, and answer at once.
 *
 * ```
 * npm run build && node dist/bench/fanout.js
 * ```
 *
 * Prints µs of processor per query with 1, 8 and 30 shards, one query after the other and 16 in flight; the
 * best of some rounds, since other work on the machine only adds.
 */
import { type BackendName, buildSnapshot, openSnapshot, type Reader } from "../src/index.js"
import { registerBackend } from "../src/shards/registry.js"
import { round, table, withDirectory } from "./support.js"

const SHARDS = 32
const DIM = 16
const QUERIES = 5000
const ROUNDS = 15

await registerBackend(new URL("./instant.js", import.meta.url))

async function microseconds(reader: Reader, shards: number, inFlight: number): Promise<number> {
  const query = new Float32Array(DIM).fill(1)
  const named = Array.from({ length: shards }, (_, shard) => shard)
  let best = Infinity
  for (let n = 0; n < ROUNDS; n++) {
    let left = QUERIES
    const before = process.cpuUsage()
    await Promise.all(
      Array.from({ length: inFlight }, async () => {
        while (left-- > 0) await reader.search(query, { shards: named })
      }),
    )
    const { user, system } = process.cpuUsage(before)
    best = Math.min(best, (user + system) / QUERIES)
  }
  return best
}

await withDirectory(async (dir) => {
  const rows = Array.from({ length: SHARDS * 4 }, (_, n) => ({
    id: `r${n}`,
    vector: Float32Array.from({ length: DIM }, (_, i) => Math.sin(n * DIM + i)),
    shard: n % SHARDS,
  }))
  await buildSnapshot(rows, {
    to: dir,
    backend: "instant" as BackendName,
    sharding: { strategy: "explicit", shards: SHARDS },
  })
  await using reader = await openSnapshot(dir)
  const lines: (string | number)[][] = []
  for (const shards of [1, 8, 30]) {
    const alone = await microseconds(reader, shards, 1)
    lines.push([shards, round(alone, 1), round(await microseconds(reader, shards, 16), 1)])
  }
  console.log(table(["shards", "µs, one at a time", "µs, 16 in flight"], lines))
})
