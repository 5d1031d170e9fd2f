import { createHash, randomBytes } from "node:crypto"
import { setMaxListeners } from "node:events"
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { type ErrorTag, isVecsnapError } from "../../src/errors.js"
import type { ListedObject, ObjectStore, PutBody } from "../../src/storage/store.js"
import { ALL } from "../support/scope.js"

export interface StoreContractOptions {
  /** What this store cannot do, by capability name. Those tests are reported as skipped, with the name. */
  readonly lacks?: readonly string[]
  /** Sizes of bodies that take another path than small ones, such as uploads in parts. */
  readonly largeBytes?: readonly number[]
}

/**
 * What every object store must do. `open` gives an empty store, another one each time.
 *
 * Capabilities that can be lacking: "conditional-writes", "conditional-multipart", "racing-multipart".
 */
export function storeContract(
  name: string,
  open: () => ObjectStore | Promise<ObjectStore>,
  { lacks = [], largeBytes = [] }: StoreContractOptions = {},
): void {
  const itWith = (capability: string) =>
    lacks.includes(capability) ? (title: string) => it.skip(`${title} (lacks ${capability})`, () => {}) : it

  describe(`object store contract: ${name}`, () => {
    let store: ObjectStore
    let directory: string
    let shared: ObjectStore

    beforeAll(async () => {
      directory = await mkdtemp(join(tmpdir(), "vecsnap-store-suite-"))
      shared = await open()
    })
    afterAll(async () => {
      shared.close()
      await rm(directory, { recursive: true, force: true })
    })

    let files = 0
    const newPath = () => join(directory, `file-${++files}`)
    const fileOf = async (bytes: Uint8Array): Promise<string> => {
      const path = newPath()
      await writeFile(path, bytes)
      return path
    }
    const fresh = (
      title: string,
      test: () => Promise<void>,
      define: typeof it | ReturnType<typeof itWith> = it,
    ) =>
      define(title, async () => {
        store = await open()
        try {
          await test()
        } finally {
          store.close()
        }
      })

    describe("reading", () => {
      it("gives undefined for what is missing", async () => {
        expect(await shared.get("no/such/key")).toBeUndefined()
        expect(await shared.get("no/such/key", { range: { start: 0, end: 1 } })).toBeUndefined()
        expect(await shared.head("no/such/key")).toBeUndefined()
        const path = newPath()
        expect(await shared.getFile("no/such/key", path)).toBeUndefined()
        await expect(readFile(path)).rejects.toThrow("ENOENT")
        expect(await collect(shared.list("no/such"))).toEqual([])
      })

      it("gives back what was put, with the same facts from get, head, getFile and list", async () => {
        const startMs = Date.now()
        const { etag } = await shared.put("facts/a", bytes("hello"))
        const object = await shared.get("facts/a")
        expect(text(object?.body)).toBe("hello")
        const info = { size: 5, etag, lastModified: object?.lastModified }
        expect(object).toEqual({ ...info, body: object?.body })
        const path = newPath()
        expect(await shared.getFile("facts/a", path)).toMatchObject({ size: 5, etag })
        expect(await readFile(path, "utf8")).toBe("hello")
        expect(await shared.head("facts/a")).toMatchObject({ size: 5, etag })
        expect(await collect(shared.list("facts/"))).toMatchObject([{ key: "facts/a", size: 5, etag }])
        // A store's clock may tell whole seconds, and run a little differently.
        expect(Math.abs(object!.lastModified.getTime() - startMs)).toBeLessThan(60_000)
      })

      it("keeps empty objects", async () => {
        await shared.put("empty", new Uint8Array())
        const object = await shared.get("empty")
        expect(object?.size).toBe(0)
        expect(object?.body).toEqual(new Uint8Array())
        const path = newPath()
        expect(await shared.getFile("empty", path)).toMatchObject({ size: 0 })
        expect((await readFile(path)).length).toBe(0)
        const file = await fileOf(new Uint8Array())
        await shared.put("empty-from-file", { file })
        expect(await shared.head("empty-from-file")).toMatchObject({ size: 0 })
      })

      it("gives bodies that are the caller's own", async () => {
        const given = bytes("abc")
        await shared.put("own", given)
        given[0] = 0
        const first = await shared.get("own")
        first!.body[1] = 0
        expect(text((await shared.get("own"))?.body)).toBe("abc")
      })

      it("sends an object only if its ETag is another than the known one", async () => {
        const { etag } = await shared.put("conditional", bytes("first"))
        expect(await shared.getIfChanged("conditional", etag)).toBe("unchanged")
        const second = await shared.put("conditional", bytes("second"))
        const changed = await shared.getIfChanged("conditional", etag)
        expect(changed).toMatchObject({ size: 6, etag: second.etag })
        expect(changed).toEqual(await shared.get("conditional"))
        expect(await shared.getIfChanged("conditional", second.etag)).toBe("unchanged")
        await shared.delete(["conditional"])
        expect(await shared.getIfChanged("conditional", second.etag)).toBeUndefined()
        expect(await tagOf(shared.getIfChanged("../x", etag))).toBe("InvalidInput")
      })

      it("reads ranges", async () => {
        await shared.put("range", bytes("0123456789"))
        const read = async (start: number, end: number) => {
          const object = await shared.get("range", { range: { start, end } })
          expect(object?.size).toBe(10)
          return text(object?.body)
        }
        expect(await read(0, 1)).toBe("0")
        expect(await read(0, 10)).toBe("0123456789")
        expect(await read(3, 7)).toBe("3456")
        expect(await read(9, 10)).toBe("9")
      })

      it("refuses a range past the end as Corrupt", async () => {
        await shared.put("short", bytes("0123456789"))
        for (const range of [
          { start: 9, end: 11 },
          { start: 10, end: 11 },
          { start: 100, end: 200 },
        ]) {
          expect(await tagOf(shared.get("short", { range }))).toBe("Corrupt")
        }
        await shared.put("nothing", new Uint8Array())
        expect(await tagOf(shared.get("nothing", { range: { start: 0, end: 1 } }))).toBe("Corrupt")
      })

      it("refuses an object that is larger than expected as Corrupt, and reads one that is not", async () => {
        await shared.put("limited", bytes("0123456789"))
        expect((await shared.get("limited", { maxBytes: 10 }))?.body.length).toBe(10)
        await expect(shared.get("limited", { maxBytes: 9 })).rejects.toThrow(
          /limited has 10 bytes, expected at most 9/,
        )
        expect(await tagOf(shared.get("limited", { maxBytes: 9 }))).toBe("Corrupt")
        expect(await shared.get("no/such/key", { maxBytes: 9 })).toBeUndefined()
      })

      it("refuses a range that makes no sense", async () => {
        for (const [start, end] of [
          [1, 1],
          [2, 1],
          [-1, 1],
          [0.5, 1],
          [0, Number.POSITIVE_INFINITY],
        ] as const) {
          expect(await tagOf(shared.get("range", { range: { start, end } }))).toBe("InvalidInput")
        }
      })

      it("does not touch a file that exists", async () => {
        await shared.put("download", bytes("new"))
        const path = await fileOf(bytes("old"))
        expect(await tagOf(shared.getFile("download", path))).toBe("InvalidInput")
        expect(await readFile(path, "utf8")).toBe("old")
      })

      it("says which directory is missing for a download", async () => {
        await shared.put("download", bytes("new"))
        const error = await errorOf(shared.getFile("download", join(directory, "missing", "file")))
        expect(isVecsnapError(error, "InvalidInput")).toBe(true)
        expect(String(error)).toContain(join(directory, "missing", "file"))
      })
    })

    describe("keys", () => {
      const ODD_KEYS = [
        "with space",
        "plus+plus",
        "per%20cent%",
        "hash#tag",
        "question?mark=1&b=2",
        "é and é decomposed e\u0301",
        "emoji 🦊/日本語",
        "quotes'\"<xml>&amp;",
        "*[glob]{a,b}~!$@:;,=()",
        "...dots../..a",
        "UPPER",
        "upper",
        `${"n".repeat(200)}/${"m".repeat(200)}`,
      ]

      fresh("may hold spaces, punctuation and any script", async () => {
        for (const key of ODD_KEYS) await store.put(key, bytes(key))
        for (const key of ODD_KEYS) {
          expect(text((await store.get(key))?.body)).toBe(key)
          expect(await store.head(key)).toMatchObject({ size: bytes(key).length })
        }
        expect(await keysOf(store.list(""))).toEqual([...ODD_KEYS].sort(byBytes))
        for (const key of ODD_KEYS) expect(await keysOf(store.list(key))).toEqual([key])
        expect(await store.delete(ODD_KEYS)).toEqual([])
        expect(await keysOf(store.list(""))).toEqual([])
      })

      it("are refused where they could leave the root or mean two things", async () => {
        const bad = [
          "",
          "/",
          "/../a",
          "a/",
          "a//b",
          ".",
          "..",
          "../a",
          "a/..",
          "a/../b",
          "a/./b",
          "a\\b",
          "a\0b",
          "a\nb",
        ]
        bad.push("\ud800", "x".repeat(1025), "é".repeat(513))
        for (const key of bad) {
          expect(await tagOf(shared.get(key))).toBe("InvalidInput")
          expect(await tagOf(shared.head(key))).toBe("InvalidInput")
          expect(await tagOf(shared.getFile(key, newPath()))).toBe("InvalidInput")
          expect(await tagOf(shared.put(key, bytes("x")))).toBe("InvalidInput")
          expect(await tagOf(shared.delete(["fine", key]))).toBe("InvalidInput")
        }
        for (const prefix of ["../", "/../", "a//", "a/../b", "a\\"]) {
          expect(await tagOf(collect(shared.list(prefix)))).toBe("InvalidInput")
        }
      })
    })

    describe("writing", () => {
      it("replaces an object whole, and changes its ETag", async () => {
        const first = await shared.put("replace", bytes("a longer first version"))
        const second = await shared.put("replace", bytes("second"))
        expect(second.etag).not.toBe(first.etag)
        const object = await shared.get("replace")
        expect(text(object?.body)).toBe("second")
        expect(object?.etag).toBe(second.etag)
      })

      it("puts files", async () => {
        const body = randomBytes(100_000)
        const file = await fileOf(body)
        const { etag } = await shared.put("from/file", { file }, { contentType: "application/json" })
        const object = await shared.get("from/file")
        expect(digest(object!.body)).toBe(digest(body))
        expect(object?.etag).toBe(etag)
        expect(digest(await readFile(file))).toBe(digest(body))
      })

      it("says which file is missing", async () => {
        const file = newPath()
        const error = await errorOf(shared.put("from/nowhere", { file }))
        expect(isVecsnapError(error, "InvalidInput")).toBe(true)
        expect(String(error)).toContain(file)
        expect(await tagOf(shared.put("from/nowhere", { file: directory }))).toBe("InvalidInput")
        expect(await shared.head("from/nowhere")).toBeUndefined()
      })

      for (const sizeBytes of largeBytes) {
        fresh(`keeps ${sizeBytes} bytes from memory and from a file`, async () => {
          const body = randomBytes(sizeBytes)
          const bodies: Record<string, PutBody> = { memory: body, file: { file: await fileOf(body) } }
          for (const [key, given] of Object.entries(bodies)) {
            const { etag } = await store.put(key, given)
            expect(await store.head(key)).toMatchObject({ size: sizeBytes, etag })
            const path = newPath()
            expect(await store.getFile(key, path)).toMatchObject({ size: sizeBytes, etag })
            expect(digest(await readFile(path))).toBe(digest(body))
            await rm(path)
          }
          const range = { start: sizeBytes - 10, end: sizeBytes }
          expect((await store.get("file", { range }))?.body).toEqual(new Uint8Array(body.subarray(-10)))
        })
      }
    })

    describe("preconditions", () => {
      const conditional = itWith("conditional-writes")

      fresh(
        "ifAbsent creates once",
        async () => {
          await store.put("once", bytes("first"), { ifAbsent: true })
          expect(await tagOf(store.put("once", bytes("second"), { ifAbsent: true }))).toBe("Conflict")
          expect(text((await store.get("once"))?.body)).toBe("first")
          await store.delete(["once"])
          await store.put("once", bytes("third"), { ifAbsent: true })
        },
        conditional,
      )

      fresh(
        "ifMatch replaces only that version",
        async () => {
          const first = await store.put("cas", bytes("1"))
          const second = await store.put("cas", bytes("2"), { ifMatch: first.etag })
          expect(await tagOf(store.put("cas", bytes("3"), { ifMatch: first.etag }))).toBe("Conflict")
          expect(text((await store.get("cas"))?.body)).toBe("2")
          const read = await store.get("cas")
          const third = await store.put("cas", bytes("3"), { ifMatch: read!.etag })
          expect(new Set([first.etag, second.etag, third.etag]).size).toBe(3)
        },
        conditional,
      )

      fresh(
        "ifMatch of a missing key is a conflict",
        async () => {
          const { etag } = await store.put("gone", bytes("1"))
          await store.delete(["gone"])
          expect(await tagOf(store.put("gone", bytes("2"), { ifMatch: etag }))).toBe("Conflict")
          expect(await store.get("gone")).toBeUndefined()
        },
        conditional,
      )

      it("ifAbsent and ifMatch do not go together", async () => {
        const options = { ifAbsent: true, ifMatch: '"x"' }
        expect(await tagOf(shared.put("both", bytes("1"), options))).toBe("InvalidInput")
      })

      fresh(
        "of 20 racing creators one wins",
        async () => {
          const results = await Promise.all(
            range(20).map((i) => tagOf(store.put("race", bytes(`writer ${i}`), { ifAbsent: true }))),
          )
          expect(results.filter((tag) => tag === undefined)).toHaveLength(1)
          expect(results.filter((tag) => tag === "Conflict")).toHaveLength(19)
          expect(text((await store.get("race"))?.body)).toBe(`writer ${results.indexOf(undefined)}`)
        },
        conditional,
      )

      fresh(
        "of 20 racing replacers one wins",
        async () => {
          const { etag } = await store.put("race", bytes("before"))
          const results = await Promise.all(
            range(20).map((i) => tagOf(store.put("race", bytes(`writer ${i}`), { ifMatch: etag }))),
          )
          expect(results.filter((tag) => tag === undefined)).toHaveLength(1)
          expect(results.filter((tag) => tag === "Conflict")).toHaveLength(19)
          expect(text((await store.get("race"))?.body)).toBe(`writer ${results.indexOf(undefined)}`)
        },
        conditional,
      )

      for (const sizeBytes of largeBytes) {
        fresh(
          `hold for ${sizeBytes} bytes too`,
          async () => {
            const body = randomBytes(sizeBytes)
            const file = await fileOf(body)
            const { etag } = await store.put("large", { file }, { ifAbsent: true })
            expect(await tagOf(store.put("large", { file }, { ifAbsent: true }))).toBe("Conflict")
            await store.put("large", bytes("small"), { ifMatch: etag })
            expect(await tagOf(store.put("large", { file }, { ifMatch: etag }))).toBe("Conflict")
            expect(text((await store.get("large"))?.body)).toBe("small")
          },
          itWith("conditional-multipart"),
        )

        fresh(
          `of 4 racing creators of ${sizeBytes} bytes one wins`,
          async () => {
            const results = await Promise.all(
              range(4).map((i) => tagOf(store.put("large", filled(sizeBytes, i), { ifAbsent: true }))),
            )
            expect(results.filter((tag) => tag === undefined)).toHaveLength(1)
            // Some servers hang up on a body that they have no use for; who tries again has the conflict.
            const losers = results.filter((tag) => tag === "Conflict" || tag === "Unavailable")
            expect(losers).toHaveLength(3)
            expect((await store.get("large", { range: { start: 0, end: 1 } }))?.body[0]).toBe(
              results.indexOf(undefined),
            )
          },
          itWith("racing-multipart"),
        )
      }
    })

    describe("listing and deleting", () => {
      fresh("lists by the bytes of the keys, whatever lies between", async () => {
        const keys = [
          "a",
          "a-b",
          "a.b",
          "ab/c",
          "ab-c",
          "ab",
          "b/c/d",
          "b/c-d",
          "b-c",
          "z",
          "é",
          "\uff5e",
          "🦊",
        ]
          // "a" and "ab" are no directories anywhere.
          .filter((key) => key !== "ab")
        for (const key of keys) await store.put(key, bytes(key))
        expect(await keysOf(store.list(""))).toEqual([...keys].sort(byBytes))
        expect(await keysOf(store.list("a"))).toEqual(["a", "a-b", "a.b", "ab-c", "ab/c"])
        expect(await keysOf(store.list("ab"))).toEqual(["ab-c", "ab/c"])
        expect(await keysOf(store.list("b/"))).toEqual(["b/c-d", "b/c/d"])
        expect(await keysOf(store.list("b/c/"))).toEqual(["b/c/d"])
        expect(await keysOf(store.list("b/c/d"))).toEqual(["b/c/d"])
        expect(await keysOf(store.list("b/c/d/e"))).toEqual([])
        expect(await keysOf(store.list("c"))).toEqual([])
      })

      fresh("lists and deletes more keys than fit a page", async () => {
        // Two pages; or three, of which the middle one has both a page before and one after it.
        const keys = range(ALL ? 2_050 : 1_050).map((i) => `many/${i % 7}/${i}`)
        await inParallel(keys, (key) => store.put(key, bytes("x")))
        await store.put("other", bytes("y"))
        const sorted = [...keys].sort(byBytes)
        expect(await keysOf(store.list("many/"))).toEqual(sorted)
        const ones = await keysOf(store.list("many/3/1"))
        expect(ones).toEqual(sorted.filter((key) => key.startsWith("many/3/1")))
        expect(await store.delete([...keys, "never/was", "many/0/none"])).toEqual([])
        expect(await keysOf(store.list(""))).toEqual(["other"])
      })

      it("may stop in the middle of a listing", async () => {
        await shared.put("stop/1", bytes("1"))
        await shared.put("stop/2", bytes("2"))
        for await (const { key } of shared.list("stop/")) {
          expect(key).toBe("stop/1")
          break
        }
      })

      it("deletes nothing without a murmur", async () => {
        expect(await shared.delete([])).toEqual([])
        expect(await shared.delete(["missing", "deep/down/missing"])).toEqual([])
      })

      fresh("finds no trace of a deleted object, nor loses its neighbours", async () => {
        await store.put("a/b/c", bytes("1"))
        await store.put("a/b/d", bytes("2"))
        await store.delete(["a/b/c"])
        expect(await store.get("a/b/c")).toBeUndefined()
        expect(await store.head("a/b/c")).toBeUndefined()
        expect(text((await store.get("a/b/d"))?.body)).toBe("2")
        // A prefix is not an object.
        expect(await store.delete(["a/b", "a"])).toEqual([])
        expect(await store.get("a/b")).toBeUndefined()
        expect(await keysOf(store.list(""))).toEqual(["a/b/d"])
      })
    })

    describe("aborting", () => {
      it("before a call makes it throw Aborted and do nothing", async () => {
        await shared.put("abort/there", bytes("x"))
        const signal = AbortSignal.abort()
        const path = newPath()
        expect(await tagOf(shared.get("abort/there", { signal }))).toBe("Aborted")
        expect(await tagOf(shared.getFile("abort/there", path, { signal }))).toBe("Aborted")
        expect(await tagOf(shared.head("abort/there", { signal }))).toBe("Aborted")
        expect(await tagOf(shared.put("abort/new", bytes("x"), { signal }))).toBe("Aborted")
        expect(await tagOf(collect(shared.list("abort/", { signal })))).toBe("Aborted")
        expect(await tagOf(shared.delete(["abort/there"], { signal }))).toBe("Aborted")
        expect(await keysOf(shared.list("abort/"))).toEqual(["abort/there"])
        await expect(readFile(path)).rejects.toThrow("ENOENT")
      })

      it("during calls ends each with its result or Aborted, and leaves whole objects only", async () => {
        const sizeBytes = Math.max(1_000_000, ...largeBytes)
        const body = filled(sizeBytes, 7)
        await shared.put("abort/large", body)
        const controller = new AbortController()
        const { signal } = controller
        // Node warns of a leak from the eleventh listener on; openStore's retry layer does this for its users.
        setMaxListeners(0, signal)
        const paths = range(4).map(newPath)
        const calls = [
          ...paths.map((path) => tagOf(shared.getFile("abort/large", path, { signal }))),
          ...range(4).map((i) => tagOf(shared.put(`abort/put-${i}`, body, { signal }))),
          ...range(4).map(() => tagOf(shared.get("abort/large", { signal }))),
        ]
        setTimeout(() => controller.abort(), 5)
        const tags = await Promise.all(calls)
        expect(tags.filter((tag) => tag !== undefined && tag !== "Aborted")).toEqual([])
        for (const [i, path] of paths.entries()) {
          const size = await readFile(path).then(
            (content) => content.length,
            () => undefined,
          )
          expect(size).toBe(tags[i] === undefined ? sizeBytes : undefined)
        }
        for await (const { size } of shared.list("abort/put-")) expect(size).toBe(sizeBytes)
      })
    })

    it("can be closed twice", async () => {
      const once = await open()
      await once.get("a")
      once.close()
      once.close()
    })

    it("has left no file but those that were asked for", async () => {
      expect((await readdir(directory)).every((entry) => /^file-\d+$/.test(entry))).toBe(true)
    })
  })
}

export const bytes = (content: string): Uint8Array => new TextEncoder().encode(content)
export const text = (body: Uint8Array | undefined): string | undefined =>
  body === undefined ? undefined : new TextDecoder().decode(body)
export const range = (length: number): number[] => Array.from({ length }, (_, i) => i)

export async function collect(listing: AsyncIterable<ListedObject>): Promise<ListedObject[]> {
  const objects: ListedObject[] = []
  for await (const object of listing) objects.push(object)
  return objects
}

export const keysOf = async (listing: AsyncIterable<ListedObject>): Promise<string[]> =>
  (await collect(listing)).map(({ key }) => key)

export async function errorOf(call: Promise<unknown>): Promise<unknown> {
  try {
    await call
    return undefined
  } catch (error) {
    return error
  }
}

/** The tag of the error that a call throws; undefined if it succeeds. Errors that are not ours are thrown on. */
export async function tagOf(call: Promise<unknown>): Promise<ErrorTag | undefined> {
  const error = await errorOf(call)
  if (error === undefined) return undefined
  if (isVecsnapError(error)) return error.tag
  throw error
}

const digest = (content: Uint8Array): string => createHash("sha256").update(content).digest("hex")
const byBytes = (a: string, b: string): number => Buffer.compare(Buffer.from(a), Buffer.from(b))
const filled = (sizeBytes: number, value: number): Uint8Array => new Uint8Array(sizeBytes).fill(value)

async function inParallel<T>(items: readonly T[], act: (item: T) => Promise<unknown>): Promise<void> {
  const queue = items.values()
  await Promise.all(
    range(16).map(async () => {
      for (const item of queue) await act(item)
    }),
  )
}
