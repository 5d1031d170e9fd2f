import { type ChildProcess, fork } from "node:child_process"
import { once } from "node:events"
import {
  chmod,
  mkdir,
  mkdtemp,
  readdir,
  rename,
  rm,
  stat,
  symlink,
  utimes,
  writeFile,
} from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest"
import { openLocalStore } from "../../src/storage/local.js"
import { ALL } from "../support/scope.js"
import { bytes, keysOf, range, storeContract, tagOf, text } from "./store-suite.js"

let base: string
let stores = 0
const newRoot = () => join(base, `store-${++stores}`)

beforeAll(async () => {
  base = await mkdtemp(join(tmpdir(), "vecsnap-local-store-"))
})
afterAll(() => rm(base, { recursive: true, force: true }))

storeContract("local directory", () => openLocalStore(newRoot()), { largeBytes: [3_000_000] })

describe("local store", () => {
  it("creates nothing until something is put", async () => {
    const root = newRoot()
    const store = openLocalStore(root)
    await store.get("a")
    await store.head("a")
    await keysOf(store.list(""))
    await store.delete(["a"])
    expect(await tagOf(Promise.reject(await stat(root).catch(() => undefined)))).toBeUndefined()
  })

  it("keeps objects as plain files, and removes directories that are empty", async () => {
    const root = newRoot()
    const store = openLocalStore(root)
    await store.put("a/b/c", bytes("1"))
    await store.put("a/d", bytes("2"))
    expect((await stat(join(root, "a/b/c"))).isFile()).toBe(true)
    await store.delete(["a/b/c"])
    expect(await readdir(join(root, "a"))).toEqual(["d"])
    await store.delete(["a/d"])
    expect(await readdir(root)).toEqual([".vecsnap"])
  })

  it("leaves no temporary file, after failures neither", async () => {
    const root = newRoot()
    const store = openLocalStore(root)
    const { etag } = await store.put("a", bytes("1"))
    await store.put("a", bytes("2"))
    await tagOf(store.put("a", bytes("3"), { ifAbsent: true }))
    await tagOf(store.put("a", bytes("3"), { ifMatch: etag }))
    await tagOf(store.put("a/b", bytes("3")))
    await store.delete(["a"])
    expect(await readdir(join(root, ".vecsnap/tmp"))).toEqual([])
    expect(await readdir(join(root, ".vecsnap/lock"))).toEqual(["free"])
    expect(await readdir(join(root, ".vecsnap/lock/free"))).toEqual([])
  })

  it("hides and refuses its own directory, at the root only", async () => {
    const store = openLocalStore(newRoot())
    await store.put("a/.vecsnap/b", bytes("1"))
    expect(await keysOf(store.list(""))).toEqual(["a/.vecsnap/b"])
    expect(await keysOf(store.list(".vec"))).toEqual([])
    expect(await keysOf(store.list(".vecsnap/"))).toEqual([])
    expect(await keysOf(store.list(".vecsnap/lock/"))).toEqual([])
    for (const key of [".vecsnap", ".vecsnap/tmp/x"]) {
      expect(await tagOf(store.put(key, bytes("x")))).toBe("InvalidInput")
      expect(await tagOf(store.get(key))).toBe("InvalidInput")
      expect(await tagOf(store.delete([key]))).toBe("InvalidInput")
    }
  })

  it("changes the ETag with each write, of equal content too", async () => {
    const store = openLocalStore(newRoot())
    const etags = new Set<string>()
    for (const _ of range(50)) etags.add((await store.put("same", bytes("same"))).etag)
    for (const _ of range(50)) {
      await store.delete(["same"])
      etags.add((await store.put("same", bytes("same"))).etag)
    }
    expect(etags.size).toBe(100)
  })

  it("says when a key would be another key's directory", async () => {
    const store = openLocalStore(newRoot())
    await store.put("dir/key", bytes("1"))
    for (const options of [{}, { ifAbsent: true }]) {
      expect(await tagOf(store.put("dir", bytes("2"), options))).toBe("InvalidInput")
      expect(await tagOf(store.put("dir/key/below", bytes("2"), options))).toBe("InvalidInput")
    }
    expect(await store.get("dir/key/below")).toBeUndefined()
    expect(await store.delete(["dir/key/below"])).toEqual([])
    expect(text((await store.get("dir/key"))?.body)).toBe("1")
  })

  it("gives objects the usual permissions, whatever those of the file put", async () => {
    const root = newRoot()
    const store = openLocalStore(root)
    const file = join(base, "private")
    await writeFile(file, "x")
    await chmod(file, 0o600)
    await store.put("from-memory", bytes("x"))
    await store.put("from-file", { file })
    const [a, b] = await Promise.all(["from-memory", "from-file"].map((key) => stat(join(root, key))))
    expect(b?.mode).toBe(a?.mode)
  })

  it("lists nothing but files that a key can name", async () => {
    const root = newRoot()
    const store = openLocalStore(root)
    await store.put("a", bytes("1"))
    await mkdir(join(root, "empty/empty"), { recursive: true })
    await writeFile(join(root, "back\\slash"), "x")
    await symlink("/", join(root, "link"))
    expect(await keysOf(store.list(""))).toEqual(["a"])
  })

  it("reads one version, whatever happens to the key meanwhile", async () => {
    const store = openLocalStore(newRoot())
    const versions = range(2).map((i) => new Uint8Array(4_000_000).fill(i + 1))
    await store.put("key", versions[0]!)
    let writing = true
    const writer = (async () => {
      for (let i = 0; i < 20; i++) await store.put("key", versions[i % 2]!)
      writing = false
    })()
    let reads = 0
    while (writing) {
      const object = await store.get("key")
      const path = join(base, `one-version-${reads++}`)
      const info = await store.getFile("key", path)
      const { body } = (await openLocalStore(base).get(`one-version-${reads - 1}`))!
      for (const read of [object!.body, body])
        expect(versions.some((version) => Buffer.compare(version, read) === 0)).toBe(true)
      expect(info?.size).toBe(4_000_000)
      await rm(path)
    }
    await writer
    expect(reads).toBeGreaterThan(0)
  })

  it("survives puts and deletes that race over the same directories", async () => {
    const root = newRoot()
    const store = openLocalStore(root)
    await Promise.all(
      range(8).map(async (i) => {
        for (const round of range(15)) {
          const key = `a/b/c/${i}`
          await store.put(key, bytes(`${round}`), { ifAbsent: true })
          expect(await store.delete([key])).toEqual([])
        }
      }),
    )
    expect(await readdir(root)).toEqual([".vecsnap"])
  })

  it("removes temporary files of dead processes, but only old ones", async () => {
    const root = newRoot()
    await openLocalStore(root).put("a", bytes("1"))
    const abandoned = join(root, ".vecsnap/tmp/abandoned")
    await writeFile(abandoned, "x")
    // Its time of modification is no sign of age: an ETag's is partly random, and a copied file's may be old.
    await utimes(abandoned, 0, 0)
    const store = openLocalStore(root)
    await store.put("b", bytes("1"))
    expect(await readdir(join(root, ".vecsnap/tmp"))).toEqual(["abandoned"])
    vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + 25 * 60 * 60 * 1000 })
    try {
      await openLocalStore(root).put("c", bytes("1"))
    } finally {
      vi.useRealTimers()
    }
    expect(await readdir(join(root, ".vecsnap/tmp"))).toEqual([])
  })

  it("reports a key that cannot be removed", async () => {
    const root = newRoot()
    const store = openLocalStore(root)
    await store.put("a/stuck", bytes("1"))
    await store.put("b", bytes("1"))
    // The lock's place is taken by a file, so that it can never be had: for root too, whom no permission stops.
    await rm(join(root, ".vecsnap/lock"), { recursive: true, force: true })
    await writeFile(join(root, ".vecsnap/lock"), "x")
    const failures = await store.delete(["a/stuck", "missing"])
    expect(failures.map(({ key }) => key)).toEqual(["a/stuck"])
    expect(failures[0]?.reason).toContain("a/stuck")
  })
})

// Real processes: each is this file's neighbour, run by Node, told what to do by its arguments.
const CHILD = fileURLToPath(new URL("./store-local-child.js", import.meta.url))
const children = new Set<ChildProcess>()

function startChild(...args: string[]): ChildProcess {
  const child = fork(CHILD, args, { stdio: ["ignore", "inherit", "inherit", "ipc"] })
  children.add(child)
  child.once("exit", () => children.delete(child))
  return child
}
afterAll(() => {
  for (const child of children) child.kill("SIGKILL")
})

async function resultOf(child: ChildProcess): Promise<string> {
  const [[message], [code]] = await Promise.all([once(child, "message"), once(child, "exit")])
  expect(code).toBe(0)
  return String(message)
}

describe("local store, between processes", () => {
  it("lets one of several processes create a key, every time", async () => {
    const root = newRoot()
    const rounds = 40
    const results = await Promise.all(
      range(4).map((i) => resultOf(startChild("create", root, String(rounds), String(i)))),
    )
    const wins = results.map((result) => JSON.parse(result) as number[])
    for (const round of range(rounds)) {
      const winners = wins.filter((won) => won.includes(round))
      expect(winners).toHaveLength(1)
      const winner = wins.indexOf(winners[0]!)
      expect(text((await openLocalStore(root).get(`round-${round}`))?.body)).toBe(String(winner))
    }
  })

  it("loses no increment of a counter by compare-and-set", async () => {
    const root = newRoot()
    const store = openLocalStore(root)
    await store.put("counter", bytes("0"))
    const increments = 50
    await Promise.all(range(4).map(() => resultOf(startChild("increment", root, String(increments)))))
    expect(text((await store.get("counter"))?.body)).toBe(String(4 * increments))
  })

  it.runIf(ALL)("goes on after processes were killed at any moment, the lock's holder included", async () => {
    const root = newRoot()
    const store = openLocalStore(root)
    await store.put("counter", bytes("0"))
    for (const round of range(6)) {
      const child = startChild("increment", root, "1000000")
      const before = await counterOf(store)
      while ((await counterOf(store)) < before + 3 + round) await new Promise((done) => setTimeout(done, 1))
      child.kill("SIGKILL")
      await once(child, "exit")
    }
    const before = await counterOf(store)
    await resultOf(startChild("increment", root, "5"))
    expect(await counterOf(store)).toBe(before + 5)
  })

  it("takes the lock over from a holder that was killed", async () => {
    const root = newRoot()
    const store = openLocalStore(root)
    const { etag } = await store.put("key", bytes("1"))
    await store.put("key", bytes("2"))
    // What a process leaves that is killed between staging and commit.
    await rename(join(root, ".vecsnap/lock/free"), join(root, ".vecsnap/lock/held-dead"))
    await writeFile(join(root, ".vecsnap/lock/held-dead/dead"), "staged")
    expect(await tagOf(store.put("key", bytes("3"), { ifMatch: etag }))).toBe("Conflict")
    expect(text((await store.get("key"))?.body)).toBe("2")
    expect(await readdir(join(root, ".vecsnap/lock"))).toEqual(["free"])
    expect(await readdir(join(root, ".vecsnap/lock/free"))).toEqual([])
  })

  it("can be aborted while it waits for the lock", async () => {
    const root = newRoot()
    const store = openLocalStore(root)
    const { etag } = await store.put("key", bytes("1"))
    await store.put("key", bytes("2"))
    await rename(join(root, ".vecsnap/lock/free"), join(root, ".vecsnap/lock/held-other"))
    const controller = new AbortController()
    const call = tagOf(store.put("key", bytes("3"), { ifMatch: etag, signal: controller.signal }))
    controller.abort()
    expect(await call).toBe("Aborted")
  })
})

const counterOf = async (store: ReturnType<typeof openLocalStore>): Promise<number> =>
  Number(text((await store.get("counter"))?.body))
