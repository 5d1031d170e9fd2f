import { execFile } from "node:child_process"
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { promisify } from "node:util"

/**
 * Runs Node with `args` to its end and tells the npm packages that it loaded code of, sorted. The coverage of V8 lists every
 * script that ran, whichever way it was loaded. Throws if the program fails.
 */
export async function packagesLoadedBy(args: readonly string[]): Promise<readonly string[]> {
  const directory = await mkdtemp(join(tmpdir(), "vecsnap-modules-"))
  try {
    await promisify(execFile)(process.execPath, args, {
      env: { ...process.env, NODE_V8_COVERAGE: directory },
    })
    const packages = new Set<string>()
    for (const file of await readdir(directory)) {
      const { result } = JSON.parse(await readFile(join(directory, file), "utf8")) as {
        readonly result: readonly { readonly url: string }[]
      }
      for (const { url } of result) {
        const [, name] = /.*\/node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(url) ?? []
        if (name !== undefined) packages.add(name)
      }
    }
    return [...packages].sort()
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}
