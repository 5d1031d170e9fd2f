/** The temporary directories of builds. */
import { mkdir, readdir, rm } from "node:fs/promises"
import { join } from "node:path"
import { isProcessGone, newOwnerName } from "../async/owner.js"

const PREFIX = "vecsnap-build-"

/** Makes a directory for this build, and removes those of builds that were killed on this machine. */
export async function makeTempDir(parent: string): Promise<string> {
  await removeAbandoned(parent)
  const dir = join(parent, `${PREFIX}${newOwnerName()}`)
  await mkdir(dir, { mode: 0o700 })
  return dir
}

/** Best effort: what can't be removed, or is removed by another build meanwhile, is no reason to fail. */
async function removeAbandoned(parent: string): Promise<void> {
  const names = await readdir(parent).catch(() => [])
  const abandoned = names.filter(
    (name) => name.startsWith(PREFIX) && isProcessGone(name.slice(PREFIX.length)),
  )
  for (const name of abandoned) await rm(join(parent, name), { recursive: true, force: true }).catch(() => {})
}
