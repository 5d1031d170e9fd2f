import { createHash } from "node:crypto"
import fc from "fast-check"
import { describe, expect, it } from "vitest"
import {
  blockRange,
  blocksWith,
  decodeLocatorIndex,
  hashOfId,
  shardsWith,
} from "../../../../src/manifest/locator.js"
import { idHashes } from "../../../../src/writer/rows/draw.js"
import { createIdLog } from "../../../../src/writer/rows/id-log.js"
import { writeLocator } from "../../../../src/writer/rows/locator.js"
import { openScratch } from "../../../../src/writer/scratch.js"
import { withTempDir } from "../../../support/stores.js"
import { batchOf } from "./rows.js"

const SHARDS = 4
/** Small, so that few rows fill many blocks. */
const ENTRIES_PER_BLOCK = 3

/** Logs rows that are in these shards, home first, and writes their locator without the rows `dropped`. */
async function locatorOf(
  dir: string,
  name: string,
  rowShards: readonly (readonly number[])[],
  dropped: ReadonlySet<number>,
) {
  const scratch = openScratch({ directory: dir })
  const log = createIdLog(scratch)
  const filled = new Map<number, number>()
  const drop = new Map<number, Set<number>>()
  for (const [row, shards] of rowShards.entries()) {
    const positions = shards.map((shard) => {
      const position = filled.get(shard) ?? 0
      filled.set(shard, position + 1)
      if (dropped.has(row)) drop.set(shard, (drop.get(shard) ?? new Set()).add(position))
      return position
    })
    const rows = { rows: new Int32Array(shards.length), shards: Int32Array.from(shards) }
    await log.add(idHashes(batchOf([0], 1, row).ids), rows, Float64Array.from(positions))
  }
  const written = await writeLocator(scratch, name, await log.finish(), drop, ENTRIES_PER_BLOCK)
  return { written, bytes: await scratch.readWhole(name) }
}

describe("the locator that a build writes", () => {
  it("names the home of every row that is left, and no row besides", () =>
    fc.assert(
      fc.asyncProperty(
        fc.array(fc.uniqueArray(fc.nat(SHARDS - 1), { minLength: 1 }), { minLength: 1, maxLength: 12 }),
        fc.array(fc.nat(11), { maxLength: 3 }),
        (rowShards, drops) =>
          withTempDir(async (dir) => {
            const dropped = new Set(drops)
            const { written, bytes } = await locatorOf(dir, "ids.bin", rowShards, dropped)
            const left = rowShards.filter((_, row) => !dropped.has(row)).length
            const locator = { ...written, key: "ids.bin" }
            expect(written.size).toBe(bytes.length)
            expect(written.sha256).toBe(createHash("sha256").update(bytes).digest("hex"))
            const index = decodeLocatorIndex(bytes.subarray(bytes.length - written.index.size), locator, left)
            expect(index.blocks.length).toBe(Math.ceil(left / ENTRIES_PER_BLOCK))
            for (const [row, shards] of rowShards.entries()) {
              const hash = hashOfId(`r${row}`)!
              const found = blocksWith(index, hash).flatMap((block) => {
                const { start, end } = blockRange(index, block)
                return [...shardsWith(bytes.subarray(start, end), hash)]
              })
              expect(found, `r${row}`).toEqual(dropped.has(row) ? [] : [shards[0]])
            }
          }),
      ),
      { numRuns: 30 },
    ))
})
