import { spawnSync } from "node:child_process"
import { mkdir, readdir, stat } from "node:fs/promises"
import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { newOwnerName } from "../../../src/async/owner.js"
import { makeTempDir } from "../../../src/writer/temp-dir.js"
import { withTempDir } from "../../support/stores.js"

describe("the temporary directory of a build", () => {
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
      const dir = await makeTempDir(parent)
      expect((await readdir(parent)).sort()).toEqual([...kept, dir.slice(parent.length + 1)].sort())
      expect((await stat(dir)).mode & 0o777).toBe(0o700)
    }))

  it("names what is wrong with its parent", async () => {
    await expect(makeTempDir("/nowhere/at/all")).rejects.toThrow("/nowhere/at/all")
  })
})
