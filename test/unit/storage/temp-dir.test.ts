import { spawnSync } from "node:child_process"
import { mkdir, readdir, stat } from "node:fs/promises"
import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { newOwnerName } from "../../../src/async/owner.js"
import { unavailable } from "../../../src/errors.js"
import { asTempFault, makeTempDir } from "../../../src/storage/temp-dir.js"
import { withTempDir } from "../../support/stores.js"

describe("a temporary directory", () => {
  it("is private, and takes the place of those whose builds were killed", () =>
    withTempDir(async (parent) => {
      const dead = spawnSync(process.execPath, ["-e", ""]).pid
      const [host] = newOwnerName().split("-")
      const kept = [
        // Another build of this process, one that runs on another machine, and what is none of ours.
        `vecsnap-build-${newOwnerName()}`,
        `vecsnap-build-00000000-${dead}-00000000`,
        `other-${host}-${dead}-00000000`,
      ]
      const killed = `vecsnap-build-${host}-${dead}-00000000`
      for (const name of [...kept, killed]) await mkdir(join(parent, name, "inside"), { recursive: true })
      const dir = await makeTempDir(parent, "vecsnap-build")
      expect((await readdir(parent)).sort()).toEqual([...kept, dir.slice(parent.length + 1)].sort())
      expect((await stat(dir)).mode & 0o777).toBe(0o700)
    }))

  it("names what is wrong with its parent", async () => {
    await expect(makeTempDir("/nowhere/at/all", "vecsnap-build")).rejects.toMatchObject({
      tag: "Unavailable",
      message: expect.stringMatching(
        /^the temporary directory \/nowhere\/at\/all cannot be used: .* no such file .*tempDir \(--temp-dir\) or TMPDIR$/,
      ),
      details: { lasting: true },
    })
  })

  it("is what its errors are about, however they are told", () => {
    const told = (error: unknown) => asTempFault("/tmp", "/tmp/vecsnap-build-1", error)
    const system = (code: string, path?: string) => Object.assign(new Error(code), { code, path })
    for (const full of [
      system("ENOSPC", "/tmp/vecsnap-build-1/spill"),
      system("ENOSPC"),
      system("SQLITE_FULL"),
      new Error("IO Error: No space left on device"),
      unavailable("full", { path: "/tmp/vecsnap-build-1/x", code: "ENOSPC" }),
    ]) {
      expect(told(full)).toMatchObject({
        tag: "Unavailable",
        message: expect.stringMatching(/^the temporary directory \/tmp cannot be used: /),
        details: { code: "ENOSPC" },
      })
    }
    for (const other of [
      system("EACCES", "/data/in.csv"),
      system("SQLITE_CORRUPT"),
      unavailable("full", { path: "/cache/x", code: "ENOSPC" }),
      new TypeError("a bug"),
    ]) {
      expect(told(other)).toBe(other)
    }
  })
})
