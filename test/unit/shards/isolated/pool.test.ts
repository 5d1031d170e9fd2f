/** A process that reads shards: what it knows, what ends it, and what that costs the others. */
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { mkdir, mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { createInterface } from "node:readline"
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest"
import type { VecsnapError } from "../../../../src/errors.js"
import type { ShardPool } from "../../../../src/shards/backend.js"
import { createIsolatedPool, type IsolationOptions } from "../../../../src/shards/isolated/pool.js"
import { assertTrust } from "../../../../src/shards/pools.js"
import { prepareQuery } from "../../../../src/shards/query.js"
import { registerBackend } from "../../../../src/shards/registry.js"
import { openShard, specOf, type TestShard } from "../../../contract/shard-rows.js"
import { ALL } from "../../../support/scope.js"
import { openedBy, type Script, writeTrouble } from "../../../support/trouble.js"

const TROUBLE = new URL("../../../support/trouble.js", import.meta.url)
const SPEC = specOf(1)
const QUERY = Float32Array.of(1)
/** Long enough for a process that is sound on a busy machine. */
const TIMEOUT_MS = 1500

let root: string
let count = 0
const pools: ShardPool[] = []

beforeAll(async () => {
  await registerBackend(TROUBLE)
  root = await mkdtemp(join(tmpdir(), "vecsnap-isolated-"))
})
afterEach(async () => {
  vi.unstubAllEnvs()
  await Promise.all(pools.splice(0).map((pool) => pool.close()))
})
afterAll(() => rm(root, { recursive: true }))

function isolated(isolation: IsolationOptions = {}): ShardPool {
  const pool = createIsolatedPool({ name: "trouble" }, {}, { timeoutMs: TIMEOUT_MS, ...isolation })
  pools.push(pool)
  return pool
}

async function shard(script: Script): Promise<string> {
  const dir = join(root, String(count++))
  await mkdir(dir)
  await writeTrouble(dir, script)
  return dir
}

const open = (pool: ShardPool, dir: string) => openShard(pool, dir, SPEC, { kind: "array" })

interface Answer {
  readonly pid: number
  readonly environment: readonly string[]
}

async function answerOf(reader: TestShard): Promise<Answer> {
  const [hit] = await reader.search(QUERY, 1)
  return hit!.payload as unknown as Answer
}

const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

const corruptOf = (dir: string, reason: RegExp) =>
  expect.objectContaining({
    tag: "Corrupt",
    message: expect.stringMatching(reason),
    details: { dir },
  })

describe("the process that reads shards", () => {
  it("is another one, and knows of the environment what it needs alone", async () => {
    vi.stubEnv("AWS_SECRET_ACCESS_KEY", "secret")
    vi.stubEnv("AWS_PROFILE", "work")
    vi.stubEnv("GOOGLE_APPLICATION_CREDENTIALS", "/secret.json")
    vi.stubEnv("HTTPS_PROXY", "http://user:secret@proxy")
    vi.stubEnv("NODE_OPTIONS", "--no-warnings")
    vi.stubEnv("DATABASE_URL", "postgres://secret")
    vi.stubEnv("LANCE_CPU_THREADS", "2")
    const { pid, environment } = await answerOf(await open(isolated(), await shard({})))
    expect(pid).not.toBe(process.pid)
    // What Node and a shell add by themselves.
    const added = ["NODE_CHANNEL_FD", "NODE_CHANNEL_SERIALIZATION_MODE", "PWD", "OLDPWD", "SHLVL", "_"]
    const known = environment.filter((name) => !added.includes(name))
    expect(known).toContain("LANCE_CPU_THREADS")
    const allowed = ["PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR", "TZ", "LANCE_CPU_THREADS"]
    expect(known.filter((name) => !allowed.includes(name))).toEqual([])
  })

  const ENDINGS = [
    [{ search: "abort" }, /it ended with SIGABRT/],
    [{ open: "abort" }, /it ended with SIGABRT/],
    [{ search: "exit" }, /it ended with exit code 3/],
    [{ search: "hang" }, /it was killed after 1500 ms without an answer/],
    [{ open: "hang" }, /it was killed after 1500 ms without an answer/],
  ] as const

  it.each(ALL ? ENDINGS : ENDINGS.slice(0, -1))(
    "by a shard that does %j fails its call alone, as Corrupt",
    async (script, reason) => {
      const pool = isolated()
      const [good, bad] = [await shard({}), await shard(script)]
      const sound = await open(pool, good)
      const { pid } = await answerOf(sound)
      const read = async () => (await open(pool, bad)).search(QUERY, 1)
      await expect(read()).rejects.toThrow(corruptOf(bad, reason))
      expect(isAlive(pid)).toBe(false)
      expect((await answerOf(sound)).pid).not.toBe(pid)
    },
  )

  it("that takes too much memory is ended, and its call is Corrupt", async () => {
    const pool = isolated({ memoryBytes: 400 * 2 ** 20, timeoutMs: 60_000 })
    const bad = await shard({ search: "fill memory" })
    const reader = await open(pool, bad)
    await expect(reader.search(QUERY, 1)).rejects.toThrow(
      corruptOf(bad, /it held \d+ bytes of memory, expected at most 419430400/),
    )
  })

  it("that ends within a query over several shards fails those that are bad", async () => {
    const pool = isolated()
    const dirs = await Promise.all(
      [{}, { search: "abort" }, {}, { search: "refuse" }, { search: "exit" }].map((script) =>
        shard(script as Script),
      ),
    )
    const readers = await Promise.all(dirs.map((dir) => open(pool, dir)))
    const query = prepareQuery(QUERY, 1, SPEC)
    const answers = await pool.search(
      readers.map(({ reader }) => reader),
      query,
    )
    expect(
      answers.map((answer) => ("error" in answer ? (answer.error as VecsnapError).tag : "answered")),
    ).toEqual(["answered", "Corrupt", "answered", "InvalidInput", "Corrupt"])
  })

  it("is not ended again and again by one shard: it is refused in the end, and others never notice", async () => {
    const pool = isolated()
    const [good, bad] = [await shard({}), await shard({ search: "abort" })]
    const sound = await open(pool, good)
    const reader = await open(pool, bad)
    for (let i = 0; i < 5; i++)
      await expect(reader.search(QUERY, 1)).rejects.toThrow(corruptOf(bad, /SIGABRT/))
    await expect(open(pool, bad)).rejects.toThrow(corruptOf(bad, /SIGABRT/))
    // Once with the others, and twice by itself.
    expect(await openedBy(bad)).toHaveLength(3)
    const { pid } = await answerOf(sound)
    for (let i = 0; i < 3; i++) expect((await answerOf(sound)).pid).toBe(pid)
    expect(await openedBy(good)).toHaveLength(2)
  })

  it("that is killed by somebody else answers the next call, and those that waited", async () => {
    const pool = isolated()
    const dirs = await Promise.all(Array.from({ length: 4 }, () => shard({})))
    const readers = await Promise.all(dirs.map((dir) => open(pool, dir)))
    const { pid } = await answerOf(readers[0]!)
    const answers = readers.map(answerOf)
    process.kill(pid, "SIGKILL")
    for (const answer of await Promise.all(answers)) expect(answer.pid).not.toBe(pid)
    const pids = new Set(await Promise.all(readers.map(async (reader) => (await answerOf(reader)).pid)))
    expect([...pids]).toHaveLength(1)
  })

  it("lets callers go at once when they give up, and is killed for what they left", async () => {
    const pool = isolated()
    const bad = await shard({ search: "hang" })
    const reader = await open(pool, bad)
    const controller = new AbortController()
    const searching = reader.search(QUERY, 1, { signal: controller.signal })
    await new Promise((resolve) => setTimeout(resolve, 50))
    controller.abort(new Error("no longer wanted"))
    await expect(searching).rejects.toMatchObject({ tag: "Aborted" })
    const [pid] = await openedBy(bad)
    await vi.waitUntil(() => !isAlive(pid!), { timeout: 30_000 })
  })

  it("is gone when its pool is closed, whatever it does", async () => {
    const pool = isolated({ timeoutMs: 600_000 })
    const bad = await shard({ search: "hang" })
    const reader = await open(pool, bad)
    const searching = reader.search(QUERY, 1)
    const settled = expect(searching).rejects.toMatchObject({ tag: "Closed" })
    await new Promise((resolve) => setTimeout(resolve, 50))
    await pool.close()
    await settled
    const [pid] = await openedBy(bad)
    await vi.waitUntil(() => !isAlive(pid!), { timeout: 30_000 })
  })

  /** Runs a program that reads a shard in a process of its own, and prints the number of that. */
  function program(dir: string, then: string): ChildProcess {
    const url = (path: string) => JSON.stringify(new URL(path, import.meta.url).href)
    const code = `
      import { registerBackend } from ${url("../../../../src/shards/registry.js")}
      import { createIsolatedPool } from ${url("../../../../src/shards/isolated/pool.js")}
      import { openShard } from ${url("../../../contract/shard-rows.js")}
      await registerBackend(new URL(${JSON.stringify(TROUBLE.href)}))
      const pool = createIsolatedPool({ name: "trouble" }, {}, { timeoutMs: 600000 })
      const reader = await openShard(pool, ${JSON.stringify(dir)}, ${JSON.stringify(SPEC)}, { kind: "array" })
      ${then}`
    return spawn(process.execPath, ["--input-type=module", "-e", code], {
      stdio: ["ignore", "pipe", "inherit"],
    })
  }

  it.each(ALL ? (["hang", undefined] as const) : (["hang"] as const))(
    "ends with its parent, though that is killed (%s)",
    async (search) => {
      const dir = await shard(search === undefined ? {} : { search })
      const then = `reader.search(Float32Array.of(1), 1); setTimeout(() => console.log("searching"), 200); setInterval(() => {}, 1000)`
      const parent = program(dir, then)
      await once(createInterface({ input: parent.stdout! }), "line")
      const [pid] = await openedBy(dir)
      expect(isAlive(pid!)).toBe(true)
      parent.kill("SIGKILL")
      await vi.waitUntil(() => !isAlive(pid!), { timeout: 30_000 })
    },
  )

  it("does not keep its parent alive once idle", async () => {
    const dir = await shard({})
    const parent = program(dir, "console.log((await reader.search(Float32Array.of(1), 1)).length)")
    const lines = once(createInterface({ input: parent.stdout! }), "line")
    const [code] = await once(parent, "exit")
    expect([code, await lines]).toEqual([0, ["1"]])
    const [pid] = await openedBy(dir)
    await vi.waitUntil(() => !isAlive(pid!), { timeout: 30_000 })
  })
})

describe("trust in a root", () => {
  it("has two values, and bounds that are numbers", () => {
    const wrong = [
      { trust: "yes" as never },
      { isolation: { memoryBytes: 0 } },
      { isolation: { timeoutMs: -1 } },
    ]
    for (const options of wrong) {
      expect(() => assertTrust(options)).toThrow(expect.objectContaining({ tag: "InvalidInput" }))
    }
    assertTrust({ trust: "untrusted", isolation: { memoryBytes: 2 ** 30, timeoutMs: 1000 } })
  })
})
