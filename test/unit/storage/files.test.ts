import { mkdir, symlink, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { expect, it } from "vitest"
import { filesBelow } from "../../../src/storage/files.js"
import { withTempDir } from "../../support/stores.js"

it("lists the files below a directory, and nothing behind a link", async () => {
  await withTempDir(async (dir) => {
    const inside = join(dir, "inside")
    await mkdir(join(inside, "deeper"), { recursive: true })
    await mkdir(join(dir, "outside"))
    const files = [join(inside, "a"), join(inside, "deeper", "b"), join(dir, "outside", "c")]
    for (const file of files) await writeFile(file, "x")
    await symlink(join(dir, "outside"), join(inside, "deeper", "link"))
    await symlink(files[2]!, join(inside, "file-link"))
    expect((await filesBelow(inside)).sort()).toEqual(files.slice(0, 2))
  })
})
