import { randomUUID } from "node:crypto"
import { getEventListeners } from "node:events"
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { conflict, unavailable } from "../../../src/errors.js"
import { deferredStore } from "../../../src/storage/deferred.js"
import { openMemoryStore } from "../../../src/storage/memory.js"
import { createRetry, type RetryClock } from "../../../src/storage/retry.js"
import type { ObjectStore, PutBody } from "../../../src/storage/store.js"
import { createCounts, withCounting } from "../../../src/storage/with-counting.js"
import { withLimit } from "../../../src/storage/with-limit.js"
import { withRetry } from "../../../src/storage/with-retry.js"
import { type Around, wrapStore } from "../../../src/storage/wrap-store.js"

let directory: string
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "vecsnap-wrappers-"))
})
afterAll(() => rm(directory, { recursive: true, force: true }))

const bytes = (content: string) => new TextEncoder().encode(content)
const newStore = () => openMemoryStore(randomUUID())
const IMMEDIATE: RetryClock = { now: () => 0, sleep: async () => {}, random: () => 0 }
const retry = createRetry({ attempts: 4 }, IMMEDIATE)

type Operation = Parameters<Around>[0]

/** What happens to one call: it is not made, or it is made and its reply is lost. */
type Fault = "refused" | "reply lost"

/** A store that commits the faults of a script: for each operation, one per call, then none. */
function faulty(inner: ObjectStore, script: Partial<Record<Operation, (Fault | undefined)[]>>): ObjectStore {
  return wrapStore(inner, async (operation, call) => {
    const fault = script[operation]?.shift()
    if (fault === "refused") throw unavailable(`${operation} refused`)
    const result = await call()
    if (fault === "reply lost") throw unavailable(`the reply to ${operation} was lost`)
    return result
  })
}

describe("withRetry", () => {
  it("repeats every operation", async () => {
    const inner = newStore()
    await inner.put("key", bytes("value"))
    const script = Object.fromEntries(
      (["get", "getFile", "head", "put", "list", "delete"] as const).map((op) => [
        op,
        ["refused", "refused"],
      ]),
    ) as Record<Operation, Fault[]>
    const store = withRetry(faulty(inner, script), retry)
    expect((await store.get("key"))?.size).toBe(5)
    expect((await store.getFile("key", join(directory, "repeated")))?.size).toBe(5)
    expect((await store.head("key"))?.size).toBe(5)
    await store.put("key-2", bytes("x"))
    const keys: string[] = []
    for await (const { key } of store.list("")) keys.push(key)
    expect(keys).toEqual(["key", "key-2"])
    expect(await store.delete(["key"])).toEqual([])
    expect(Object.values(script)).toEqual([[], [], [], [], [], []])
  })

  it("gives up in the end", async () => {
    const store = withRetry(faulty(newStore(), { get: Array(9).fill("refused") }), retry)
    await expect(store.get("key")).rejects.toMatchObject({ tag: "Unavailable", details: { attempts: 4 } })
  })

  it("goes on with a listing behind the last key, with new attempts after each", async () => {
    const inner = newStore()
    const keys = Array.from({ length: 12 }, (_, i) => `key-${i + 10}`)
    for (const key of keys) await inner.put(key, bytes(key))
    // Each new listing gets further by one key before it fails, and the script is longer than the attempts.
    const list = keys.flatMap((_, i) => [...Array<undefined>(i + 1).fill(undefined), "refused" as const])
    const store = withRetry(faulty(inner, { list }), retry)
    const found: string[] = []
    for await (const { key } of store.list("key-")) found.push(key)
    expect(found).toEqual(keys)
    expect(list).toEqual([])
  })

  describe("with a conditional put whose reply was lost", () => {
    async function bodies(content: Uint8Array): Promise<PutBody[]> {
      const file = join(directory, randomUUID())
      await writeFile(file, content)
      return [content, { file }]
    }

    it("finds its own object, created or replaced, from memory or from a file", async () => {
      for (const size of [0, 5, 9_000_000]) {
        for (const body of await bodies(new Uint8Array(size).fill(3))) {
          const inner = newStore()
          const created = await withRetry(faulty(inner, { put: ["reply lost"] }), retry).put("key", body, {
            ifAbsent: true,
          })
          expect(created.etag).toBe((await inner.head("key"))?.etag)
          const before = await inner.put("key", bytes("before"))
          const replaced = await withRetry(faulty(inner, { put: ["reply lost"] }), retry).put("key", body, {
            ifMatch: before.etag,
          })
          expect(replaced.etag).toBe((await inner.head("key"))?.etag)
          expect((await inner.head("key"))?.size).toBe(size)
        }
      }
    })

    it("settles it also when the reading fails at first", async () => {
      const inner = newStore()
      const script = {
        put: ["reply lost" as const],
        head: ["refused" as const],
        get: ["reply lost" as const],
      }
      const { etag } = await withRetry(faulty(inner, script), retry).put("key", bytes("ours"), {
        ifAbsent: true,
      })
      expect(etag).toBe((await inner.head("key"))?.etag)
    })

    it("stays a conflict when the object is another's", async () => {
      for (const theirs of ["them", "longer than ours", ""]) {
        for (const body of await bodies(bytes("ours"))) {
          const inner = newStore()
          await inner.put("key", bytes(theirs))
          const store = withRetry(faulty(inner, { put: ["refused"] }), retry)
          const call = store.put("key", body, { ifAbsent: true })
          await expect(call).rejects.toMatchObject({ tag: "Conflict" })
        }
      }
    })

    it("stays a conflict when the object is gone", async () => {
      const store = withRetry(faulty(newStore(), { put: ["refused"] }), retry)
      const call = store.put("key", bytes("ours"), { ifMatch: '"1"' })
      await expect(call).rejects.toMatchObject({ tag: "Conflict" })
    })

    it("believes a conflict that comes first, even with equal bytes", async () => {
      const inner = newStore()
      await inner.put("key", bytes("equal"))
      const call = withRetry(inner, retry).put("key", bytes("equal"), { ifAbsent: true })
      await expect(call).rejects.toMatchObject({ tag: "Conflict" })
    })
  })

  it("does not ask twice about a conflict of an unconditional put", async () => {
    const inner = newStore()
    await inner.put("key", bytes("ours"))
    let puts = 0
    const store = wrapStore(inner, (operation, call) => {
      if (operation !== "put") return call()
      throw ++puts === 1 ? unavailable("busy") : conflict("odd")
    })
    await expect(withRetry(store, retry).put("key", bytes("ours"))).rejects.toMatchObject({ message: "odd" })
  })

  it("leaves no file of a failed download", async () => {
    const path = join(directory, "failed")
    const inner = newStore()
    await inner.put("key", bytes("value"))
    const store = withRetry(faulty(inner, { getFile: Array(9).fill("refused") }), retry)
    await expect(store.getFile("key", path)).rejects.toMatchObject({ tag: "Unavailable" })
    expect(await readdir(directory)).not.toContain("failed")
  })
})

describe("withLimit", () => {
  /** A store whose calls wait to be let go, and the number of those in flight. */
  function stalled(inner: ObjectStore) {
    const waiting: (() => void)[] = []
    const store = wrapStore(inner, async (_operation, call) => {
      await new Promise<void>((resolve) => waiting.push(resolve))
      return call()
    })
    return { store, waiting }
  }
  const settled = () => new Promise((resolve) => setImmediate(resolve))

  it("bounds the calls in flight, of all kinds together", async () => {
    const { store, waiting } = stalled(newStore())
    const limited = withLimit(store, 3)
    const listing = limited.list("")[Symbol.asyncIterator]()
    const calls = [
      limited.get("a"),
      limited.head("a"),
      limited.put("a", bytes("x")),
      listing.next(),
      limited.delete(["b"]),
      limited.getFile("missing", join(directory, "missing")),
    ]
    await settled()
    expect(waiting).toHaveLength(3)
    for (let i = 0; i < calls.length; i++) {
      waiting[i]!()
      await settled()
      expect(waiting).toHaveLength(Math.min(calls.length, i + 4))
    }
    await Promise.all(calls)
  })

  it("keeps no place for a listing between its steps", async () => {
    const inner = newStore()
    await inner.put("a", bytes("x"))
    await inner.put("b", bytes("y"))
    const limited = withLimit(inner, 1)
    const seen: number[] = []
    for await (const { key } of limited.list("")) seen.push((await limited.get(key))?.size ?? -1)
    expect(seen).toEqual([1, 1])
  })

  it("lets a waiting call be aborted, and keeps no listener on the signal", async () => {
    const { store, waiting } = stalled(newStore())
    const limited = withLimit(store, 1)
    const controller = new AbortController()
    const first = limited.get("a")
    const second = limited.get("b", { signal: controller.signal })
    controller.abort()
    await expect(second).rejects.toMatchObject({ tag: "Aborted" })
    waiting[0]!()
    await first
    expect(waiting).toHaveLength(1)
    expect(getEventListeners(controller.signal, "abort")).toEqual([])
  })

  it("needs a place at least", () => {
    for (const concurrency of [0, -1, 1.5]) {
      expect(() => withLimit(newStore(), concurrency)).toThrow("concurrency must be")
    }
  })
})

describe("withCounting", () => {
  it("counts calls, failures and bytes", async () => {
    const counts = createCounts()
    const store = withCounting(newStore(), counts)
    const file = join(directory, "counted")
    await writeFile(file, "12345678")
    await store.put("a", bytes("1234"))
    await store.put("b", { file })
    await store.put("a", bytes("x"), { ifAbsent: true }).catch(() => {})
    await store.get("a", { range: { start: 1, end: 3 } })
    await store.get("a", { range: { start: 1, end: 99 } }).catch(() => {})
    await store.get("missing")
    await store.getFile("b", join(directory, "counted-copy"))
    await store.head("a")
    for await (const _ of store.list("")) {
      // Each step is one call of the wrapped listing, but the listing is one.
    }
    await store.delete(["a", "b"])
    // A precondition that does not hold is an answer, no failure.
    expect(counts).toEqual({
      get: 3,
      getFile: 1,
      head: 1,
      put: 3,
      list: 1,
      delete: 1,
      failed: 1,
      bytesRead: 10,
      bytesWritten: 12,
      throttled: 0,
      throttledMs: 0,
    })
  })

  it("counts each attempt below a retry, each operation above it", async () => {
    const below = createCounts()
    const above = createCounts()
    const attempts = withCounting(faulty(newStore(), { get: ["refused", "refused"] }), below)
    await withCounting(withRetry(attempts, retry), above).get("key")
    expect(below).toMatchObject({ get: 3, failed: 2 })
    expect(above).toMatchObject({ get: 1, failed: 0 })
  })
})

describe("deferredStore", () => {
  it("opens the store at the first call, and once", async () => {
    let opened = 0
    const inner = newStore()
    const store = deferredStore(inner.url, async () => {
      opened++
      return inner
    })
    expect(store.url).toBe(inner.url)
    expect(opened).toBe(0)
    await Promise.all([store.put("a", bytes("1")), store.put("b", bytes("22"))])
    expect((await store.get("a"))?.body).toEqual(bytes("1"))
    expect(opened).toBe(1)
  })

  it("passes every call on", async () => {
    const inner = newStore()
    const store = deferredStore(inner.url, async () => inner)
    const { etag } = await store.put("a", bytes("value"))
    expect(await store.getIfChanged("a", etag)).toBe("unchanged")
    expect((await store.head("a"))?.size).toBe(5)
    expect((await store.getFile("a", join(directory, "deferred")))?.size).toBe(5)
    const keys: string[] = []
    for await (const { key } of store.list("")) keys.push(key)
    expect(keys).toEqual(["a"])
    expect(await store.delete(["a"])).toEqual([])
    expect(await inner.head("a")).toBeUndefined()
  })

  it("closes what it has opened, and opens nothing to close it", async () => {
    const calls: string[] = []
    const inner: ObjectStore = { ...newStore(), url: "memory://x", close: () => void calls.push("closed") }
    const open = async () => {
      calls.push("opened")
      return { ...inner, head: async () => undefined }
    }
    deferredStore(inner.url, open).close()
    await Promise.resolve()
    expect(calls).toEqual([])
    const store = deferredStore(inner.url, open)
    await store.head("a")
    store.close()
    await Promise.resolve()
    expect(calls).toEqual(["opened", "closed"])
  })

  it("fails each call with the reason for which it could not be opened, and closing does not", async () => {
    const store = deferredStore("memory://x", async () => {
      throw unavailable("not now")
    })
    await expect(store.head("a")).rejects.toThrow("not now")
    store.close()
    await expect(store.get("a")).rejects.toThrow("not now")
  })
})
