/** Signed snapshots on the command line: processes with keys in files, in the environment and in vecsnap.yaml. */
import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { openStore } from "../../src/index.js"
import { type CliResult, runCli } from "../support/cli.js"
import { s3Root } from "../support/stores.js"

let dir: string
let words: string
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "vecsnap-signatures-"))
  words = join(dir, "words.jsonl")
  const rows = Array.from({ length: 8 }, (_, i) => ({ id: `w${i}`, vector: [i, 1], part: i % 2 }))
  await writeFile(words, rows.map((row) => `${JSON.stringify(row)}\n`).join(""))
})
afterAll(() => rm(dir, { recursive: true }))

const vecsnap = (args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<CliResult> =>
  runCli(args, { XDG_CACHE_HOME: join(dir, "cache"), ...env })

async function json(args: readonly string[], env: NodeJS.ProcessEnv = {}) {
  const { code, stdout, stderr } = await vecsnap([...args, "--json"], env)
  expect(code, stderr).toBe(0)
  return JSON.parse(stdout)
}

const build = (to: string, ...more: string[]): string[] => [
  ...["build", words, "--to", to, "--metric", "l2", "--strategy", "explicit", "--shards", "2"],
  ...["--shard-column", "part", "--no-certificate", "--quiet", ...more],
]

async function createKey(name: string) {
  const { id } = await json(["keys", "create", join(dir, name)])
  return { id, private: join(dir, `${name}.key`), public: join(dir, `${name}.pub`) }
}

describe("vecsnap keys", () => {
  it("makes a pair whose private half is its owner's alone, says what to do next, and replaces nothing", async () => {
    const name = join(dir, "pair")
    const made = await vecsnap(["keys", "create", name])
    expect(made.code, made.stderr).toBe(0)
    const id = /key ([0-9a-f]{16})/.exec(made.stdout)![1]
    expect(made.stdout).toContain(`--sign-key ${name}.key`)
    expect(made.stdout).toContain(`--trusted-key ${name}.pub`)
    const secret = await readFile(`${name}.key`, "utf8")
    expect((await stat(`${name}.key`)).mode & 0o777).toBe(0o600)
    expect(made.stdout + made.stderr).not.toContain(secret.split("\n")[1])
    for (const [file, kind] of [
      ["pair.key", "private"],
      ["pair.pub", "public"],
    ] as const)
      expect((await json(["keys", "show", join(dir, file)])).keys).toEqual([{ id, kind }])

    const again = await vecsnap(["keys", "create", name])
    expect(again).toMatchObject({ code: 2, stderr: expect.stringContaining("pair.pub is there already") })
    await rm(`${name}.pub`)
    expect(await vecsnap(["keys", "create", name])).toMatchObject({
      code: 2,
      stderr: expect.stringContaining("pair.key"),
    })
    expect(await readFile(`${name}.key`, "utf8")).toBe(secret)
  })
})

describe.each(["a directory", "S3"])("a signed root in %s", (kind) => {
  it("is built, shown, read, guarded and rolled back by keys", async () => {
    const name = kind === "S3" ? "s3" : "local"
    const [key, other] = [await createKey(name), await createKey(`${name}-other`)]
    const s3 = kind === "S3" ? s3Root("signatures-cli") : undefined
    const root = s3?.url ?? join(dir, "root")
    const query = (...args: string[]) => ["query", root, "--vector", "[1,1]", "--shards", "all", ...args]
    const trust = ["--trusted-key", key.public]

    const first = await json(build(root, "--sign-key", key.private))
    const second = await json(build(root), { VECSNAP_SIGN_KEY: await readFile(key.private, "utf8") })
    expect((await json(query(...trust))).snapshot).toBe(second.run)
    expect((await json(query("--snapshot", first.run, ...trust))).snapshot).toBe(first.run)
    expect(await vecsnap(query(), { VECSNAP_TRUSTED_KEYS: other.public })).toMatchObject({
      code: 6,
      stderr: expect.stringContaining(`signed by key ${key.id}, which is not trusted (trusted: ${other.id})`),
    })

    expect(await json(["info", root])).toMatchObject({ signature: { keys: [key.id], trusted: null } })
    expect(await json(["info", root, "--snapshot", first.run, ...trust])).toMatchObject({
      signature: { keys: [key.id], trusted: true, problem: null },
    })
    expect((await vecsnap(["info", root, "--trusted-key", other.public])).stdout).toMatch(
      /signed +not trusted/,
    )
    expect(await json(["health", root, ...trust])).toMatchObject({ status: "healthy", signedBy: [key.id] })
    expect(await json(["verify", root, ...trust])).toMatchObject({ intact: true, signedBy: [key.id] })

    const unsigned = await vecsnap(["rollback", root])
    expect(unsigned).toMatchObject({ code: 2, stderr: expect.stringMatching(/--sign-key.*--unsigned/) })
    const store = openStore(root, s3?.store)
    const old = (await store.get("_CURRENT"))!.body
    const back = await json(["rollback", root, "--sign-key", key.private])
    expect(back).toMatchObject({ run: first.run, action: "rollback", signedBy: [key.id] })
    expect((await vecsnap(["history", root])).stdout).toContain(`signed by ${key.id}`)
    expect((await json(query(...trust))).snapshot).toBe(first.run)

    // A process that has seen the rollback is followed by one that is shown the pointer from before it.
    await store.put("_CURRENT", old)
    expect(await vecsnap(query(...trust))).toMatchObject({
      code: 6,
      stderr: expect.stringContaining("was seen here before"),
    })
    const elsewhere = await json(query("--cache-dir", join(dir, `${name}-elsewhere`), ...trust))
    expect(elsewhere.snapshot).toBe(second.run)

    await json(["rollback", root, "--unsigned"])
    const verified = await vecsnap(["verify", root, ...trust])
    expect(verified).toMatchObject({ code: 6, stdout: expect.stringContaining("_CURRENT is not signed") })
    const repair = ["verify", root, "--repair-pointer", "--sign-key", key.private]
    expect(await json(repair)).toMatchObject({ repaired: true })
    expect((await json(query(...trust))).snapshot).toBe(second.run)
    store.close()
  })
})

describe("vecsnap.yaml", () => {
  it("names keys by their files, and trusted ones until when", async () => {
    const key = await createKey("yaml")
    const root = join(dir, "yaml-root")
    const config = join(dir, "keys.yaml")
    const settings = (more: string) => writeFile(config, `to: ${root}\nsign-key: ${key.private}\n${more}`)
    await settings(`trusted-keys: ${key.public}\n`)
    const { run } = await json([...build(root), "--config", config])
    const read = ["query", "--vector", "[1,1]", "--shards", "all", "--config", config]
    expect((await json(read)).snapshot).toBe(run)
    await settings(`trusted-keys: [{ key: ${key.public}, valid-until: 2026-01-01T00:00:00Z }]\n`)
    expect(await vecsnap(read)).toMatchObject({
      code: 6,
      stderr: expect.stringContaining("valid until 2026"),
    })
    await settings(`trusted-keys: [{ key: ${key.public}, valid-until: tomorrow }]\n`)
    expect(await vecsnap(read)).toMatchObject({ code: 2, stderr: expect.stringContaining("trusted-keys") })
    const secret = await readFile(key.private, "utf8")
    await writeFile(config, `to: ${root}\nsign-key: ${JSON.stringify(secret)}\n`)
    const refused = await vecsnap(read)
    expect(refused).toMatchObject({ code: 2, stderr: expect.stringContaining("the path of a key file") })
    expect(refused.stderr).not.toContain(secret.split("\n")[1])
  })
})
