import { writeFile } from "node:fs/promises"
import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { localDirectory } from "../../../src/shards/source.js"
import { withTempDir } from "../../support/stores.js"

describe("a shard in a local directory", () => {
  it("gives the directory, and any ranges of its files in the order asked for", () =>
    withTempDir(async (dir) => {
      await writeFile(join(dir, "file"), "0123456789")
      const source = localDirectory(dir)
      expect(await source.localDir()).toBe(dir)
      const ranges = [
        { start: 8, end: 10 },
        { start: 0, end: 3 },
        { start: 4, end: 4 },
      ]
      const pieces = await source.read("file", ranges)
      expect(pieces.map((piece) => Buffer.from(piece).toString())).toEqual(["89", "012", ""])
      expect(await source.read("file", [])).toEqual([])
    }))

  it("says Corrupt of a file that is missing or too short, and Aborted", () =>
    withTempDir(async (dir) => {
      await writeFile(join(dir, "file"), "0123456789")
      const source = localDirectory(dir)
      const corrupt = (name: string) => ({
        tag: "Corrupt",
        message: expect.stringContaining(join(dir, name)),
      })
      await expect(source.read("other", [{ start: 0, end: 1 }])).rejects.toMatchObject(corrupt("other"))
      await expect(source.read("file", [{ start: 9, end: 11 }])).rejects.toMatchObject(corrupt("file"))
      await expect(source.read("file", [], { signal: AbortSignal.abort() })).rejects.toMatchObject({
        tag: "Aborted",
      })
    }))
})
