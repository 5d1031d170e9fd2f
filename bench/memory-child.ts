/**
 * Opens all shards of a snapshot in a process of its own; prints by how much its resident memory grew, in
 * bytes.
 */
import { openSnapshot } from "../src/index.js"

const [url, cacheDir] = process.argv.slice(2) as [string, string]
await using reader = await openSnapshot(url, { cacheDir })
const before = process.memoryUsage.rss()
await reader.search(new Float32Array(reader.snapshot.dim).fill(1), { shards: "all" })
console.log(process.memoryUsage.rss() - before)
