import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { silentLogger } from "../../../src/logger.js"
import { hashOfId } from "../../../src/manifest/locator.js"
import type { LocatorEntry, Manifest } from "../../../src/manifest/manifest.js"
import { adjacentRuns, createIdLocator, type IdLocator } from "../../../src/reader/locator.js"
import { openMemoryStore } from "../../../src/storage/memory.js"
import type { GetOptions, ObjectStore } from "../../../src/storage/store.js"
import { writeLocator } from "../../../src/writer/rows/locator.js"
import { openScratch } from "../../../src/writer/scratch.js"

const KEY = "routing/k3v9x2m4q7ab/ids.bin"
const PER_BLOCK = 4

let dir: string
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "vecsnap-test-"))
})
afterAll(() => rm(dir, { recursive: true, force: true }))

interface Given {
  readonly locator: IdLocator
  readonly store: ObjectStore
  readonly entry: LocatorEntry
  /** Ranges that were read, as "start-end". */
  readonly reads: string[]
  /** Ids by rising hash: id `i` is in block `i / PER_BLOCK`. */
  readonly ids: readonly number[]
  readonly shardOf: (id: number) => number
  /** While set, reads wait for it. */
  hold: Promise<void> | undefined
}

let spaces = 0
/** A locator of ids 0 to `count` - 1, in blocks of four, in shards 0 to 2. */
async function given(
  count: number,
  change: (manifest: Manifest, ids: readonly number[]) => Manifest = (manifest) => manifest,
): Promise<Given> {
  const ids = Array.from({ length: count }, (_, i) => i).sort((a, b) =>
    hashOfId(a)! < hashOfId(b)! ? -1 : 1,
  )
  const shardOf = (id: number): number => id % 3
  const bucket = Buffer.concat(
    ids.map((id, order) => {
      const entry = Buffer.alloc(24)
      entry.writeBigUInt64LE(hashOfId(id)!)
      entry.writeDoubleLE(order, 8)
      entry.writeUInt32LE(shardOf(id), 16)
      return entry
    }),
  )
  const names = [`bucket-${spaces}`]
  await writeFile(join(dir, names[0]!), bucket)
  const name = `ids-${spaces}`
  const entry = {
    key: KEY,
    ...(await writeLocator(openScratch({ directory: dir }), name, names, new Map(), PER_BLOCK)),
  }
  const store = openMemoryStore(`locator-${process.pid}-${spaces++}`)
  await store.put(KEY, await readFile(join(dir, name)))

  const result: { -readonly [K in keyof Given]?: Given[K] } = { store, entry, reads: [], ids, shardOf }
  const recording: ObjectStore = {
    ...store,
    url: store.url,
    get: async (key: string, options?: GetOptions) => {
      result.reads!.push(`${options?.range?.start}-${options?.range?.end}`)
      await result.hold
      return store.get(key, options)
    },
  }
  const shards = [0, 1, 2].map((shard) => ({ shard }))
  const manifest = change(
    { run: "k3v9x2m4q7ab", rows: count, locator: entry, shards } as unknown as Manifest,
    ids,
  )
  result.locator = createIdLocator(recording, manifest, silentLogger)
  return result as Given
}

/** Range of the blocks from `first` to `last`. */
const blocks = (first: number, last: number): string =>
  `${first * PER_BLOCK * 12}-${(last + 1) * PER_BLOCK * 12}`
const indexRange = ({ entry }: Given): string => `${entry.size - entry.index.size}-${entry.size}`

describe("the reader of the id locator", () => {
  it("reads the index once and each block once, adjacent blocks in one request", async () => {
    const it = await given(40)
    const { locator, ids, shardOf, reads } = it
    expect(reads).toEqual([])
    expect(await locator.locate([ids[5]!])).toEqual([[shardOf(ids[5]!)]])
    expect(reads).toEqual([indexRange(it), blocks(1, 1)])

    reads.length = 0
    const wanted = [ids[39]!, ids[5]!, ids[0]!, ids[8]!, ids[13]!, ids[35]!]
    expect(await locator.locate(wanted)).toEqual(wanted.map((id) => [shardOf(id)]))
    expect(reads.toSorted()).toEqual([blocks(0, 0), blocks(2, 3), blocks(8, 9)].toSorted())

    reads.length = 0
    expect(await locator.locate(wanted)).toEqual(wanted.map((id) => [shardOf(id)]))
    expect(reads).toEqual([])
  })

  it("names no shard for ids that are not there, of any kind", async () => {
    const { locator } = await given(40)
    expect(await locator.locate([1000, "5", 2n ** 63n, -(2n ** 70n), 2n ** 62n])).toEqual([
      [],
      [],
      [],
      [],
      [],
    ])
    expect(await locator.locate([])).toEqual([])
  })

  it("shares what is under way with lookups that come meanwhile", async () => {
    const it = await given(40)
    const lookups = Promise.all([it.ids[4]!, it.ids[5]!, it.ids[6]!].map((id) => it.locator.locate([id])))
    expect((await lookups).flat(2)).toEqual([4, 5, 6].map((i) => it.shardOf(it.ids[i]!)))
    expect(it.reads).toEqual([indexRange(it), blocks(1, 1)])
  })

  it("lets an aborted lookup go at once, without harm to others that wait for the same", async () => {
    const it = await given(40)
    await it.locator.locate([it.ids[0]!])
    it.reads.length = 0
    let release = (): void => {}
    it.hold = new Promise((resolve) => {
      release = resolve
    })
    const controller = new AbortController()
    const left = it.locator.locate([it.ids[20]!], controller.signal)
    const stays = it.locator.locate([it.ids[21]!])
    controller.abort()
    await expect(left).rejects.toMatchObject({ tag: "Aborted" })
    release()
    it.hold = undefined
    expect(await stays).toEqual([[it.shardOf(it.ids[21]!)]])
    expect(it.reads).toEqual([blocks(5, 5)])
  })

  it("gives up requests that nobody waits for any more, and sends them when somebody does again", async () => {
    const it = await given(400)
    await it.locator.locate([it.ids[0]!])
    it.reads.length = 0
    let release = (): void => {}
    it.hold = new Promise((resolve) => {
      release = resolve
    })
    const controller = new AbortController()
    // Every other block: 50 requests, 8 of which are in flight at a time.
    const wanted = it.ids.filter((_, i) => Math.floor(i / PER_BLOCK) % 2 === 1)
    const left = it.locator.locate(wanted, controller.signal)
    await new Promise((resolve) => setImmediate(resolve))
    expect(it.reads.length).toBe(8)
    controller.abort()
    await expect(left).rejects.toMatchObject({ tag: "Aborted" })
    release()
    it.hold = undefined
    await new Promise((resolve) => setImmediate(resolve))
    expect(it.reads.length).toBe(8)
    expect(await it.locator.locate(wanted)).toEqual(wanted.map((id) => [it.shardOf(id)]))
    // The 8 in flight were given up too, and are asked for again.
    expect(it.reads.length).toBe(8 + 50)
  })

  it("forgets what failed, so that the next lookup tries again", async () => {
    const it = await given(40)
    const { body } = (await it.store.get(KEY))!
    await it.store.delete([KEY])
    await expect(it.locator.locate([1])).rejects.toMatchObject({ tag: "NotFound" })
    await expect(it.locator.locate([1])).rejects.toThrow(KEY)
    await it.store.put(KEY, body)
    expect(await it.locator.locate([it.ids[0]!])).toEqual([[it.shardOf(it.ids[0]!)]])
    await it.store.delete([KEY])
    await expect(it.locator.locate([it.ids[9]!])).rejects.toMatchObject({ tag: "NotFound" })
    await it.store.put(KEY, body)
    expect(await it.locator.locate([it.ids[9]!])).toEqual([[it.shardOf(it.ids[9]!)]])
  })

  it("notices any changed byte that it reads, and any other length, naming the object", async () => {
    const original = await given(30)
    const { body } = (await original.store.get(KEY))!
    for (let position = 0; position < body.length; position++) {
      const it = await given(30)
      const damaged = Uint8Array.from(body)
      damaged[position]! ^= 1 << (position % 8)
      await it.store.put(KEY, damaged)
      const error = await it.locator.locate(it.ids).catch((error: unknown) => error)
      expect(error, `byte ${position}`).toMatchObject({ tag: "Corrupt" })
      expect((error as Error).message).toContain(KEY)
    }
    for (const other of [body.subarray(0, -1), body.subarray(1), Buffer.concat([body, Buffer.of(0)])]) {
      const it = await given(30)
      await it.store.put(KEY, other)
      const error = await it.locator.locate([it.ids[0]!]).catch((error: unknown) => error)
      expect(error).toMatchObject({ tag: "Corrupt" })
      expect((error as Error).message).toContain(KEY)
    }
  })

  it("refuses a shard that the snapshot does not have", async () => {
    const it = await given(9, (manifest) => ({ ...manifest, shards: manifest.shards.slice(0, 2) }))
    await expect(it.locator.locate([2])).rejects.toThrow(`${KEY} names shard 2, which holds no rows`)
    await expect(it.locator.locate([2])).rejects.toMatchObject({ tag: "Corrupt" })
  })

  it("groups adjacent numbers into runs of limited length", () => {
    expect(adjacentRuns([7, 2, 3, 9, 4, 5, 8], 3)).toEqual([
      [2, 5],
      [5, 6],
      [7, 10],
    ])
    expect(adjacentRuns([], 3)).toEqual([])
  })
})
