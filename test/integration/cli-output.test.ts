import { spawn } from "node:child_process"
import { once } from "node:events"
import { existsSync } from "node:fs"
import { open, readFile, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { fromRoot } from "../support/paths.js"
import { withTempDir } from "../support/stores.js"

/** Builds a small snapshot, with the output going where it is told; returns the exit code. */
async function build(
  dir: string,
  to: { readonly stdout: string; readonly stderr: string },
  ...args: string[]
) {
  await writeFile(join(dir, "in.jsonl"), '{"id":"a","vector":[1,2]}\n{"id":"b","vector":[2,1]}\n')
  const stdout = await open(to.stdout, "a")
  const stderr = await open(to.stderr, "a")
  try {
    const command = ["build", "in.jsonl", "--to", "./root", "--strategy", "lsh", "--shards", "1", ...args]
    const child = spawn(process.execPath, [fromRoot("dist/cli/main.js"), ...command], {
      cwd: dir,
      stdio: ["ignore", stdout.fd, stderr.fd],
    })
    const [code] = await once(child, "exit")
    return code
  } finally {
    await stdout.close()
    await stderr.close()
  }
}

// A device that is always full.
describe.skipIf(!existsSync("/dev/full"))("where the output goes to a full disk", () => {
  it("a log that cannot be written does not end a build", () =>
    withTempDir(async (dir) => {
      const out = join(dir, "out")
      expect(await build(dir, { stdout: out, stderr: "/dev/full" }, "--json")).toBe(0)
      expect(JSON.parse(await readFile(out, "utf8"))).toMatchObject({ rows: 2 })
    }))

  it("a result that cannot be printed is told by the exit code, after the build", () =>
    withTempDir(async (dir) => {
      const log = join(dir, "log")
      expect(await build(dir, { stdout: "/dev/full", stderr: log }, "--json")).toBe(7)
      expect(await readFile(log, "utf8")).toContain("error: cannot write the output: ENOSPC")
      expect(existsSync(join(dir, "root", "_CURRENT"))).toBe(true)
    }))
})

it("a summary on /dev/stdout comes after what is printed, and the device stays", () =>
  withTempDir(async (dir) => {
    const out = join(dir, "out")
    const log = join(dir, "log")
    expect(await build(dir, { stdout: out, stderr: log }, "--summary-file", "/dev/stdout", "--json")).toBe(0)
    const printed = (await readFile(out, "utf8")).trim()
    expect(printed.match(/"run"/g)).toHaveLength(2)
    expect(existsSync("/dev/stdout")).toBe(true)
  }))
