import { spawnSync } from "node:child_process"
import { constants } from "node:fs"
import { lstat, open, readdir, readFile, symlink, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { withSummary } from "../../../cli/summary.js"
import { withTempDir } from "../../support/stores.js"
import { captureIo } from "./capture.js"

/** Writes a summary to a path; returns what was warned of. */
async function summaryTo(path: string): Promise<string> {
  const io = captureIo()
  await withSummary(
    () => path,
    io,
    async () => ({ run: "a" }),
  )
  return io.err()
}

const SUMMARY = { run: "a", exitCode: 0 }

describe("a summary file", () => {
  it("is replaced whole where it is a file", () =>
    withTempDir(async (dir) => {
      const path = join(dir, "summary.json")
      await writeFile(path, "old, and longer than the new one".repeat(10))
      expect(await summaryTo(path)).toBe("")
      expect(JSON.parse(await readFile(path, "utf8"))).toEqual(SUMMARY)
      expect(await readdir(dir)).toEqual(["summary.json"])
    }))

  it("stays the link that it is, as /dev/stdout must", () =>
    withTempDir(async (dir) => {
      const [path, target] = [join(dir, "link"), join(dir, "target")]
      await writeFile(target, "old, and longer than the new one".repeat(10))
      await symlink(target, path)
      expect(await summaryTo(path)).toBe("")
      expect((await lstat(path)).isSymbolicLink()).toBe(true)
      expect(JSON.parse(await readFile(target, "utf8"))).toEqual(SUMMARY)
      expect((await readdir(dir)).sort()).toEqual(["link", "target"])
    }))

  it("is written into a pipe, and waits for nobody", () =>
    withTempDir(async (dir) => {
      const path = join(dir, "pipe")
      expect(spawnSync("mkfifo", [path]).status).toBe(0)
      expect(await summaryTo(path)).toMatch(/^warning: the summary file .*pipe was not written \(ENXIO\)\n$/)
      const reading = await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
      try {
        expect(await summaryTo(path)).toBe("")
        const { buffer, bytesRead } = await reading.read(Buffer.alloc(1000), 0, 1000)
        expect(JSON.parse(buffer.subarray(0, bytesRead).toString())).toEqual(SUMMARY)
      } finally {
        await reading.close()
      }
      expect((await lstat(path)).isFIFO()).toBe(true)
    }))
})
