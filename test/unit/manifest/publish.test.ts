import { randomUUID } from "node:crypto"
import { describe, expect, it } from "vitest"
import { conflict, unavailable } from "../../../src/errors.js"
import { readPointer } from "../../../src/manifest/current.js"
import { POINTER_KEY } from "../../../src/manifest/keys.js"
import { encodePointer, withCondemned } from "../../../src/manifest/pointer.js"
import { type ExpectedLive, publishManifest, swapPointer } from "../../../src/manifest/publish.js"
import { openMemoryStore } from "../../../src/storage/memory.js"
import type { ObjectStore, PutBody, PutOptions } from "../../../src/storage/store.js"
import { wrapStore } from "../../../src/storage/wrap-store.js"
import { storeTiny } from "../../support/tiny-snapshot.js"

const A = "aaaaaaaaaaaa"
const B = "bbbbbbbbbbbb"
const C = "cccccccccccc"

const freshStore = (): ObjectStore => openMemoryStore(randomUUID())

async function publish(
  store: ObjectStore,
  run: string,
  expected: ExpectedLive,
  confirm?: () => Promise<void>,
) {
  const { key, manifest } = await storeTiny(store, run)
  return publishManifest(store, key, manifest, {
    action: "publish",
    expected,
    ...(confirm && { confirm }),
  })
}

const liveRun = async (store: ObjectStore): Promise<string | undefined> => (await readPointer(store))?.run

/** `store`, with something done around the puts of the pointer. */
function aroundPointer(
  store: ObjectStore,
  put: (write: () => Promise<{ readonly etag: string }>, body: PutBody) => Promise<{ readonly etag: string }>,
): ObjectStore {
  return {
    ...wrapStore(store, (_, call) => call()),
    put: (key, body, options?: PutOptions) => {
      const write = () => store.put(key, body, options)
      return key === POINTER_KEY ? put(write, body) : write()
    },
  }
}

describe("when it was published", () => {
  const SECOND = new Date("2026-11-21T03:00:00Z")
  const after = (ms: number): Date => new Date(SECOND.getTime() + ms)
  /** Its clock is cut to the second, as that of S3 is. */
  const withStoresTime = (store: ObjectStore): ObjectStore => ({
    ...wrapStore(store, (_, call) => call()),
    head: async (key, options) => {
      const info = await store.head(key, options)
      return info && (key.startsWith("probes/") ? { ...info, lastModified: SECOND } : info)
    },
  })

  it.each([
    ["within the second to which the store cuts", 999, 999],
    ["at that second", 0, 0],
    ["before", -5_000, 0],
    ["later by a clock that is wrong", 1_000, 0],
  ])("built %s", async (_, builtMs, publishedMs) => {
    const store = withStoresTime(freshStore())
    const { key, manifest } = await storeTiny(store, A, { createdAt: after(builtMs) })
    await publishManifest(store, key, manifest, { action: "publish", expected: undefined })
    expect((await readPointer(store))?.publishedAt).toEqual(after(publishedMs))
  })
})

describe("publishing", () => {
  it("makes a snapshot live, counts it and remembers the one before", async () => {
    const store = freshStore()
    expect(await publish(store, A, undefined)).toMatchObject({
      publication: { number: 1 },
      replaced: undefined,
    })
    expect(await publish(store, B, { run: A, number: 1 })).toMatchObject({
      publication: { number: 2 },
      replaced: A,
    })
    expect(await readPointer(store)).toMatchObject({ run: B, number: 2, history: [{ run: A, number: 1 }] })
  })

  it.each<[string, ExpectedLive]>([
    ["nothing", undefined],
    ["another run", { run: C, number: 1 }],
    ["the same run by another publication", { run: A, number: 0 }],
  ])("refuses if %s was expected to be live, unless anything may be", async (_, expected) => {
    const store = freshStore()
    await publish(store, A, undefined)
    await expect(publish(store, B, expected)).rejects.toMatchObject({ tag: "Conflict" })
    expect(await liveRun(store)).toBe(A)
    await publish(store, B, "any")
    expect(await liveRun(store)).toBe(B)
  })

  it("refuses a snapshot of which a file is missing or has another size", async () => {
    const store = freshStore()
    const { key, manifest } = await storeTiny(store, A)
    const file = `${manifest.shards[0]!.folder}/shard.db`
    const attempt = () => publishManifest(store, key, manifest, { action: "publish", expected: undefined })
    await store.put(file, Buffer.from("short"))
    await expect(attempt()).rejects.toThrow(`${file} has 5 bytes, the manifest says 7`)
    await store.delete([file])
    await expect(attempt()).rejects.toThrow(`${file} is missing`)
    expect(await liveRun(store)).toBeUndefined()
  })

  it("refuses a snapshot whose manifest a collection has removed since it was read", async () => {
    const store = freshStore()
    const { key, manifest } = await storeTiny(store, A)
    await store.delete([key])
    await expect(
      publishManifest(store, key, manifest, { action: "publish", expected: undefined }),
    ).rejects.toMatchObject({ tag: "NotFound" })
    expect(await liveRun(store)).toBeUndefined()
  })

  it("refuses a run that a collection has condemned", async () => {
    const store = freshStore()
    await publish(store, A, undefined)
    const live = (await readPointer(store))!
    expect(await swapPointer(store, live, withCondemned(live, [B]))).toBe(true)
    await expect(publish(store, B, { run: A })).rejects.toMatchObject({ tag: "NotFound" })
    await publish(store, C, { run: A, number: 1 })
    expect(await readPointer(store)).toMatchObject({ run: C, condemned: [B] })
  })

  it("goes on when only a collection has changed the pointer, and stops when the run was condemned meanwhile", async () => {
    for (const condemned of [C, B]) {
      const store = freshStore()
      await publish(store, A, undefined)
      let once = true
      const collecting = async () => {
        if (!once) return
        once = false
        const live = (await readPointer(store))!
        await swapPointer(store, live, withCondemned(live, [condemned]))
      }
      const result = await publish(store, B, { run: A, number: 1 }, collecting).catch((error) => error)
      expect(result).toMatchObject(condemned === C ? { replaced: A } : { tag: "NotFound" })
      expect(await liveRun(store)).toBe(condemned === C ? B : A)
    }
  })

  it("does not move the pointer if it can't be confirmed", async () => {
    const store = freshStore()
    const lost = () => Promise.reject(conflict("the lease is lost"))
    await expect(publish(store, A, undefined, lost)).rejects.toThrow("the lease is lost")
    expect(await liveRun(store)).toBeUndefined()
  })

  it("has published when the reply was lost, when the request came twice, or when it was replaced right after", async () => {
    const lostReply = (write: () => Promise<{ readonly etag: string }>) =>
      write().then(() => Promise.reject(unavailable("the connection was closed")))
    const twice = (write: () => Promise<{ readonly etag: string }>) => write().then(write)
    for (const fault of [lostReply, twice]) {
      const store = freshStore()
      expect(await publish(aroundPointer(store, fault), A, undefined)).toMatchObject({ replaced: undefined })
      expect(await liveRun(store)).toBe(A)
    }
    const store = freshStore()
    const replacedAtOnce = async (write: () => Promise<{ readonly etag: string }>) => {
      await write()
      await publish(store, B, { run: A })
      throw unavailable("the connection was closed")
    }
    expect(await publish(aroundPointer(store, replacedAtOnce), A, undefined)).toMatchObject({
      publication: { number: 1 },
    })
    expect(await readPointer(store)).toMatchObject({ run: B, history: [{ run: A }] })
  })

  it("fails with Unavailable, and not before a look, if the write did not arrive", async () => {
    const store = freshStore()
    const down = aroundPointer(store, () => Promise.reject(unavailable("the connection was refused")))
    await expect(publish(down, A, undefined)).rejects.toThrow("the connection was refused")
    expect(await liveRun(store)).toBeUndefined()
  })

  it("notices that a store which ignores preconditions let another overwrite it", async () => {
    const store = freshStore()
    await publish(store, A, undefined)
    const other = await storeTiny(store, C)
    const overwritten = aroundPointer(store, async (write) => {
      const live = (await readPointer(store))!
      const reply = await write()
      const { key, manifest } = other
      const body = {
        ...live,
        number: 2,
        run: C,
        manifest: key,
        history: [live],
        publishedAt: manifest.createdAt,
      }
      await store.put(POINTER_KEY, encodePointer(body))
      return reply
    })
    await expect(publish(overwritten, B, { run: A, number: 1 })).rejects.toMatchObject({ tag: "Conflict" })
    expect(await liveRun(store)).toBe(C)
  })

  it("heeds an abort up to the write of the pointer", async () => {
    const store = freshStore()
    const { key, manifest } = await storeTiny(store, A)
    const stop = new AbortController()
    const confirm = async () => stop.abort()
    await expect(
      publishManifest(store, key, manifest, {
        action: "publish",
        expected: undefined,
        confirm,
        signal: stop.signal,
      }),
    ).rejects.toMatchObject({ tag: "Aborted" })
    expect(await liveRun(store)).toBeUndefined()
  })
})
