/**
 * A process of its own that opens a snapshot and searches all of its shards: `<url> <cacheDir>`. It prints
 * a line of JSON when it has the answer, and then keeps its shards open until its standard input ends.
 */
import { openSnapshot, stringifyJson } from "../../src/index.js"

const [url, cacheDir] = process.argv.slice(2) as [string, string]
await using reader = await openSnapshot(url, { cacheDir })
const { hits } = await reader.search(new Float32Array(reader.snapshot.dim).fill(0.1), {
  k: 20,
  probes: "all",
})
process.stdout.write(
  `${stringifyJson({ ids: hits.map(({ id }) => id), downloads: reader.stats().shardDownloads })}\n`,
)
for await (const _ of process.stdin) {
  // Until it ends.
}
