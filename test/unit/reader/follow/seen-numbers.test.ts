import { chmod, mkdir, readdir, stat, writeFile } from "node:fs/promises"
import { dirname, join } from "node:path"
import { describe, expect, it } from "vitest"
import { createSeenNumbers } from "../../../../src/reader/follow/seen-numbers.js"
import { withTempDir } from "../../../support/stores.js"

const URL = "s3://vectors/words"

describe("numbers that were seen", () => {
  it("are none at first, then the highest, for every root its own", () =>
    withTempDir(async (dir) => {
      const seen = createSeenNumbers(dir, URL)
      expect(await seen.highest()).toBe(0)
      await seen.note(7)
      await createSeenNumbers(dir, URL).note(9)
      expect(await seen.highest()).toBe(9)
      expect(await createSeenNumbers(dir, `${URL}/other`).highest()).toBe(0)
      expect(await readdir(seen.directory)).toEqual(["9"])
    }))

  it("never go back, in whatever order processes note them", () =>
    withTempDir(async (dir) => {
      const numbers = Array.from({ length: 60 }, (_, i) => 1_796_000_000_000 + ((i * 37) % 60))
      await Promise.all(numbers.map((number) => createSeenNumbers(dir, URL).note(number)))
      const seen = createSeenNumbers(dir, URL)
      expect(await seen.highest()).toBe(1_796_000_000_059)
      await seen.note(5)
      expect(await seen.highest()).toBe(1_796_000_000_059)
    }))

  it("belong to their owner alone, and nothing else in the directory counts", () =>
    withTempDir(async (dir) => {
      const seen = createSeenNumbers(dir, URL)
      await seen.note(4)
      expect((await stat(join(seen.directory, "4"))).mode & 0o777).toBe(0o600)
      for (const path of [seen.directory, dirname(seen.directory)])
        expect((await stat(path)).mode & 0o777).toBe(0o700)
      for (const name of ["05", "1e9", "-7", "12345678901234567", "x"])
        await writeFile(join(seen.directory, name), "")
      expect(await seen.highest()).toBe(4)
    }))

  it.skipIf(process.getuid?.() === 0)("that cannot be kept are an error that names the directory", () =>
    withTempDir(async (dir) => {
      await mkdir(join(dir, ".seen"))
      await chmod(join(dir, ".seen"), 0o500)
      const seen = createSeenNumbers(dir, URL)
      await expect(seen.note(4)).rejects.toMatchObject({
        tag: "Unavailable",
        message: expect.stringContaining(seen.directory),
      })
    }),
  )
})
