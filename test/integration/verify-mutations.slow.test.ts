/** Whatever of a shard makes a search of everything fail makes a deep verification fail. */
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { messageOf } from "../../src/errors.js"
import { checkRecords } from "../../src/maintenance/verify/shard.js"
import { createShardPool } from "../../src/shards/pools.js"
import { prepareQuery } from "../../src/shards/query.js"
import { backendByName } from "../../src/shards/registry.js"
import { withShard } from "../../src/shards/with-shard.js"
import { createRandom } from "../../src/vectors/random.js"
import { noise, noiseRows, rowsOf, specOf } from "../contract/shard-rows.js"

const SPEC = specOf(8, { fields: [{ name: "n", type: "int64" }] })
const ROWS = noiseRows(60, 8).map((row, n) => ({ ...row, fields: { n }, payload: JSON.stringify({ n }) }))

let root: string
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "vecsnap-mutations-"))
})
afterAll(() => rm(root, { recursive: true }))

async function filesOf(dir: string): Promise<readonly (readonly [name: string, bytes: Buffer])[]> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true })
  const names = entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(dir.length + 1))
    .sort()
  return Promise.all(names.map(async (name) => [name, await readFile(join(dir, name))] as const))
}

describe.each([
  ["sqlite-vec", 400],
  ["lancedb", 120],
] as const)("a deep verification of a mutated %s shard", (backend, mutations) => {
  it("fails wherever a search of everything does", async () => {
    const sound = join(root, backend)
    await mkdir(sound)
    const index = await backendByName(backend).build(rowsOf(ROWS, SPEC), sound, SPEC)
    const files = await filesOf(sound)
    const random = createRandom(17)
    const outcomes = { fine: 0, both: 0, verifiedOnly: 0 }
    // Lance files that are damaged may end the process that reads them.
    const pool = createShardPool(
      backendByName(backend),
      { workers: 1 },
      { trust: "untrusted", isolation: { timeoutMs: 10_000 } },
    )

    for (let mutation = 0; mutation < mutations; mutation++) {
      const dir = join(root, `${backend}-${mutation}`)
      const target = random.below(files.length)
      for (const [i, [name, bytes]] of files.entries()) {
        const changed = Buffer.from(bytes)
        if (i === target) {
          const place = random.below(bytes.length)
          changed[place]! ^= 1 + random.below(255)
        }
        await mkdir(dirname(join(dir, name)), { recursive: true })
        await writeFile(join(dir, name), changed)
      }
      const entry = { folder: `shard ${mutation}`, index, rows: ROWS.length }
      const searched = await failure(() =>
        withShard(pool, dir, entry, SPEC, async (reader) => {
          const hits = await reader.search(prepareQuery(noise(8, 5), 60, SPEC))
          if (hits.length !== 60) throw new Error(`found ${hits.length} rows`)
        }),
      )
      const verified = await failure(() =>
        withShard(pool, dir, entry, SPEC, async (reader) => {
          const problems = await checkRecords("shard", reader, 60, SPEC, async () => {})
          if (problems.length > 0) throw new Error(problems.join())
        }),
      )
      if (searched !== undefined) expect(verified, `mutation ${mutation}: ${searched}`).toBeDefined()
      outcomes[verified === undefined ? "fine" : searched === undefined ? "verifiedOnly" : "both"]++
      await rm(dir, { recursive: true })
    }
    await pool.close()
    // The mutations reach something, and not only what everybody notices.
    expect(outcomes.both).toBeGreaterThan(mutations / 20)
    expect(outcomes.fine).toBeGreaterThan(0)
  }, 900_000)
})

async function failure(work: () => Promise<void>): Promise<string | undefined> {
  try {
    await work()
    return undefined
  } catch (error) {
    return messageOf(error)
  }
}
