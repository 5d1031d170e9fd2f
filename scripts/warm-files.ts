/**
 * Names the source files that a query runs through when its shards are open: the fewer, the less there is to know of a
 * search. V8 counts calls; of a file that is named, some function was called.
 *
 *     npm run build && node dist/scripts/warm-files.js
 */
import { mkdtemp, rm } from "node:fs/promises"
import { Session } from "node:inspector/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { buildSnapshot, openSnapshot } from "../src/index.js"
import { createRandom } from "../src/vectors/random.js"

const OURS = new URL("../src/", import.meta.url).href
const DIM = 8

const random = createRandom(1)
const records = Array.from({ length: 400 }, (_, id) => ({
  id,
  vector: Float32Array.from({ length: DIM }, () => random.gaussian()),
}))
const query = records[7]!.vector

const dir = await mkdtemp(join(tmpdir(), "vecsnap-warm-files-"))
try {
  const root = join(dir, "root")
  await buildSnapshot(records, { to: root, sharding: { strategy: "cluster", shards: 4 } })
  await using reader = await openSnapshot(root, { cacheDir: join(dir, "cache"), workers: 1 })
  const search = () => reader.search(query, { probes: 2 })
  await search()

  const session = new Session()
  session.connect()
  await session.post("Profiler.enable")
  await session.post("Profiler.startPreciseCoverage", { callCount: true, detailed: false })
  // Forgets what was called before.
  await session.post("Profiler.takePreciseCoverage")
  await search()
  const { result } = await session.post("Profiler.takePreciseCoverage")
  session.disconnect()

  const files = result
    .filter(({ url }) => url.startsWith(OURS))
    // The function without a name is the module itself, which ran when it was loaded.
    .filter(({ functions }) => functions.some((f) => f.functionName !== "" && f.ranges[0]!.count > 0))
    .map(({ url }) => url.slice(OURS.length).replace(/\.js$/, ".ts"))
    .sort()
  process.stdout.write(`${files.length} files of src/\n${files.map((file) => `  ${file}\n`).join("")}`)
} finally {
  await rm(dir, { recursive: true, force: true })
}
