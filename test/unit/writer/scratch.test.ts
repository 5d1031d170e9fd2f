import { mkdir, readdir } from "node:fs/promises"
import { join } from "node:path"
import fc from "fast-check"
import { describe, expect, it } from "vitest"
import { openScratch, type Scratch } from "../../../src/writer/scratch.js"
import { withTempDir } from "../../support/stores.js"

/** Reads a file in pieces of `size` bytes. */
async function readInPieces(scratch: Scratch, name: string, size: number): Promise<number[]> {
  const reader = await scratch.read(name)
  const bytes: number[] = []
  for (;;) {
    const piece = new Uint8Array(size)
    const filled = await reader.fill(piece)
    bytes.push(...piece.subarray(0, filled))
    if (filled < size) break
  }
  await reader.close()
  return bytes
}

const content = fc.array(fc.uint8Array({ maxLength: 20 }), { maxLength: 5 })

describe("the scratch store", () => {
  it("gives back all that was appended to a file, in order, also where it is opened again", () =>
    fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.constantFrom("a", "b"), content), { minLength: 1 }),
        fc.integer({ min: 1, max: 16 }),
        (appends, size) =>
          withTempDir(async (dir) => {
            const scratch = openScratch({ directory: dir })
            const expected = new Map<string, number[]>()
            for (const [name, chunks] of appends) {
              await scratch.append(name, chunks)
              expected.set(name, [...(expected.get(name) ?? []), ...chunks.flatMap((chunk) => [...chunk])])
            }
            const elsewhere = openScratch(structuredClone(scratch.location))
            for (const [name, bytes] of expected) {
              expect([...(await elsewhere.readWhole(name))]).toEqual(bytes)
              expect(await readInPieces(elsewhere, name, size)).toEqual(bytes)
            }
          }),
      ),
      { numRuns: 30 },
    ))

  it("removes files, folders, and what is not there", () =>
    withTempDir(async (dir) => {
      const scratch = openScratch({ directory: dir })
      for (const name of ["file", "other"]) await scratch.append(name, Buffer.of(1))
      await mkdir(scratch.path("folder"))
      await scratch.append(join("folder", "file"), Buffer.of(1))
      for (const name of ["file", "folder", "none"]) await scratch.remove(name)
      expect(await readdir(dir)).toEqual(["other"])
    }))

  it("says which file is not there", () =>
    withTempDir(async (dir) => {
      const scratch = openScratch({ directory: dir })
      const error = { tag: "NotFound", message: `there is no scratch file ${join(dir, "spill-3")}` }
      await expect(scratch.read("spill-3")).rejects.toMatchObject(error)
      await expect(scratch.readWhole("spill-3")).rejects.toMatchObject(error)
    }))
})
