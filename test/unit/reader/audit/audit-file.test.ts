import { appendFile, readFile, stat, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { openSource } from "../../../../src/index.js"
import { silentLogger } from "../../../../src/logger.js"
import { AuditFile } from "../../../../src/reader/audit/audit-file.js"
import { withTempDir } from "../../../support/stores.js"

async function write(path: string, vectors: readonly number[][], maxBytes = 1000) {
  const warnings: string[] = []
  const logger = { ...silentLogger, warn: (_: unknown, text: string) => void warnings.push(text) }
  const file = new AuditFile(path, maxBytes, logger)
  for (const vector of vectors) file.add(vector)
  await file.close()
  return warnings
}

async function read(path: string): Promise<number[][]> {
  const source = await openSource([path])
  const found: number[][] = []
  for await (const { rows, vectors } of source.read({}))
    for (let row = 0; row < rows; row++)
      found.push([...vectors.subarray((row * vectors.length) / rows, ((row + 1) * vectors.length) / rows)])
  return found
}

describe("the file of audited queries", () => {
  it("is read as queries, and grows from one reader to the next; nobody else can read it", () =>
    withTempDir(async (dir) => {
      const path = join(dir, "q.fvecs")
      expect(
        await write(path, [
          [1, 2, 3],
          [4, 5, 6],
        ]),
      ).toEqual([])
      expect(await write(path, [[7, 8, 9]])).toEqual([])
      expect(await read(path)).toEqual([
        [1, 2, 3],
        [4, 5, 6],
        [7, 8, 9],
      ])
      expect((await stat(path)).mode & 0o777).toBe(0o600)
    }))

  it("stays within its bytes, and says so once", () =>
    withTempDir(async (dir) => {
      const path = join(dir, "q.fvecs")
      const vectors = Array.from({ length: 9 }, (_, n) => [n])
      expect(await write(path, vectors, 25)).toEqual([`${path} is full: 25 bytes of audited queries`])
      expect(await read(path)).toEqual([[0], [1], [2]])
      expect((await stat(path)).size).toBe(24)
    }))

  it("loses a vector that was not written to its end", () =>
    withTempDir(async (dir) => {
      const path = join(dir, "q.fvecs")
      await write(path, [[1, 2]])
      await appendFile(path, Buffer.alloc(5, 2))
      await write(path, [[3, 4]])
      expect(await read(path)).toEqual([
        [1, 2],
        [3, 4],
      ])
    }))

  it("keeps one of another dimension as it is", () =>
    withTempDir(async (dir) => {
      const path = join(dir, "q.fvecs")
      await write(path, [[1, 2]])
      const before = await readFile(path)
      expect(await write(path, [[1], [2]])).toEqual([
        `audited queries are not kept in ${path} any more: it has vectors of 2 dimensions, expected 1`,
      ])
      expect(await readFile(path)).toEqual(before)
      await writeFile(join(dir, "not-a-directory"), "")
      const nowhere = join(dir, "not-a-directory", "q.fvecs")
      expect(await write(nowhere, [[1], [2]])).toEqual([expect.stringContaining("ENOTDIR")])
    }))
})
