import { mkdtemp, readdir, readFile, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import fc from "fast-check"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { isVecsnapError } from "../../../../src/errors.js"
import { buildShard } from "../../../../src/shards/lancedb/build.js"
import { checkIndexFile, type IndexFile } from "../../../../src/shards/lancedb/index-file.js"
import { noiseRows, rowsOf, specOf } from "../../../contract/shard-rows.js"

const SPEC = specOf(8)
const NUMBERS = { partitions: 5, dim: 8, rows: 500 }

let dir: string
const files = new Map<IndexFile, Buffer>()

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "vecsnap-lance-index-"))
  await buildShard(rowsOf(noiseRows(500, 8), SPEC), dir, SPEC, { exactRowsMax: 10, rowsPerPartition: 100 })
  const indices = join(dir, "vectors.lance", "_indices")
  const [uuid] = await readdir(indices)
  for (const name of ["index.idx", "auxiliary.idx"] as const)
    files.set(name, await readFile(join(indices, uuid!, name)))
})

afterAll(() => rm(dir, { recursive: true }))

/** The most bytes that were read at a time. */
let largest = 0

const check = (name: IndexFile, bytes: Buffer, numbers = NUMBERS) =>
  checkIndexFile(
    name,
    name,
    bytes.length,
    async (start, length) => {
      largest = Math.max(largest, length)
      return bytes.subarray(start, start + length)
    },
    numbers,
  )

const corrupt = (message: RegExp) =>
  expect.objectContaining({ tag: "Corrupt", message: expect.stringMatching(message) })

describe.each(["index.idx", "auxiliary.idx"] as const)("the numbers of %s", (name) => {
  const at = (change: (bytes: Buffer) => void): Buffer => {
    const bytes = Buffer.from(files.get(name)!)
    change(bytes)
    return bytes
  }

  it("are those of a shard that we build, and of no other", async () => {
    const bytes = files.get(name)!
    await check(name, bytes)
    await expect(check(name, bytes, { ...NUMBERS, partitions: 6 })).rejects.toThrow(
      corrupt(/offsets of partitions: 5, expected 6/),
    )
    if (name === "index.idx")
      await expect(check(name, bytes, { ...NUMBERS, dim: 9 })).rejects.toThrow(corrupt(/centroids are 5 x 8/))
    else
      await expect(check(name, bytes, { ...NUMBERS, rows: 501 })).rejects.toThrow(
        corrupt(/rows: 500, expected 501/),
      )
  })

  it("that lead out of the file, or are absurd, are Corrupt before anything is read by them", async () => {
    const end = files.get(name)!.length
    largest = 0
    for (const place of [end - 32, end - 24])
      await expect(
        check(
          name,
          at((bytes) => bytes.writeBigUInt64LE(2n ** 40n, place)),
        ),
      ).rejects.toThrow(corrupt(/not within its/))
    for (const place of [end - 16, end - 12])
      await expect(
        check(
          name,
          at((bytes) => bytes.writeUInt32LE(2 ** 31, place)),
        ),
      ).rejects.toThrow(corrupt(/does not end as a Lance file/))
    await expect(check(name, Buffer.alloc(10))).rejects.toThrow(corrupt(/has 10 bytes/))
    expect(largest).toBeLessThan(end)
  })

  it("are never anything but right or Corrupt, whatever bytes change", async () => {
    const bytes = files.get(name)!
    const places = fc.array(fc.tuple(fc.nat(2000), fc.integer({ min: 1, max: 255 })), {
      minLength: 1,
      maxLength: 4,
    })
    await fc.assert(
      fc.asyncProperty(places, fc.boolean(), async (flips, fromEnd) => {
        const damaged = at((copy) => {
          for (const [place, mask] of flips) {
            const index = fromEnd ? bytes.length - 1 - (place % bytes.length) : place % bytes.length
            copy[index]! ^= mask
          }
        })
        try {
          await check(name, damaged)
        } catch (error) {
          if (!isVecsnapError(error, "Corrupt")) throw error
        }
      }),
      { numRuns: 500, seed: 5 },
    )
  })
})
