import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { pathToFileURL } from "node:url"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { openStore } from "../../src/storage/open.js"
import { packagesLoadedBy } from "../support/modules.js"
import { fromRoot } from "../support/paths.js"
import { ALL } from "../support/scope.js"
import { publishTiny } from "../support/tiny-snapshot.js"

// What a command loads it makes its user wait for: the AWS SDK, CEL and zod take longer than all else that most commands do.

let directory: string
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "vecsnap-start-"))
  await publishTiny(openStore(directory), "k3x9q1z7w2ab")
})
afterAll(() => rm(directory, { recursive: true }))

const packagesOf = (...command: string[]) => packagesLoadedBy([fromRoot("dist/cli/main.js"), ...command])
const SDK_OR_CEL = /^(@aws|@smithy|@bufbuild)/
/** What trains a layout. */
const TRAINING = /^ml-/

describe("start-up", () => {
  it("of --version loads what reads arguments, and no more", async () => {
    expect(await packagesOf("--version")).toEqual(["commander", "lossless-json"])
  })

  it.each(ALL ? ["info", "shards", "history", "runs"] : ["info"])(
    "of %s loads neither the AWS SDK nor CEL",
    async (command) => {
      const packages = await packagesOf(command, directory)
      expect(packages).toContain("zod")
      expect(packages.filter((name) => SDK_OR_CEL.test(name) || TRAINING.test(name))).toEqual([])
    },
  )

  it("of the library loads neither the AWS SDK nor CEL", async () => {
    const library = pathToFileURL(fromRoot("dist/src/index.js"))
    const packages = await packagesLoadedBy([
      "--input-type=module",
      "--eval",
      `import ${JSON.stringify(library)}`,
    ])
    expect(packages).toContain("zod")
    expect(packages.filter((name) => SDK_OR_CEL.test(name))).toEqual([])
  })

  it("of a build loads what trains it, and of a query it does not", async () => {
    const index = JSON.stringify(pathToFileURL(fromRoot("dist/src/index.js")))
    const program = (work: string) => [
      "--input-type=module",
      "--eval",
      `import * as vecsnap from ${index}; ${work}`,
    ]
    const [root, cacheDir] = [join(directory, "built"), join(directory, "cache")].map((path) =>
      JSON.stringify(path),
    )
    const build = `const rows = Array.from({ length: 50 }, (_, n) => ({ id: String(n), vector: [n % 7, n % 5, n, 1] }))
      await vecsnap.buildSnapshot(rows, { to: ${root}, sharding: { strategy: "cluster", shards: 3, layout: "plain" } })`
    const query = `const reader = await vecsnap.openSnapshot(${root}, { cacheDir: ${cacheDir} })
      const { hits } = await reader.search([1, 1, 1, 1], { k: 1, probes: 1 })
      if (hits.length !== 1) throw new Error("nothing was found")
      await reader.close()`
    const training = async (work: string) =>
      (await packagesLoadedBy(program(work))).filter((name) => TRAINING.test(name))
    expect(await training(build)).toContain("ml-kmeans")
    expect(await training(query)).toEqual([])
  })

  it("of a store in S3 loads the AWS SDK at its first call, which shows that these tests see it", async () => {
    const open = JSON.stringify(pathToFileURL(fromRoot("dist/src/storage/open.js")))
    // Nothing listens there.
    const s3 = { endpoint: "http://127.0.0.1:1", credentials: { accessKeyId: "a", secretAccessKey: "b" } }
    const options = JSON.stringify({ s3, retry: { attempts: 1 } })
    const store = `import { openStore } from ${open}; const store = openStore("s3://bucket/prefix", ${options}); store.close();`
    const call = `await store.head("key").catch(() => {})`
    const sdk = /^@aws-sdk\/client-s3$/
    const run = (program: string) => packagesLoadedBy(["--input-type=module", "--eval", program])
    expect((await run(store)).filter((name) => sdk.test(name))).toEqual([])
    expect((await run(`${store} ${call}`)).filter((name) => sdk.test(name))).toEqual(["@aws-sdk/client-s3"])
  })
})
