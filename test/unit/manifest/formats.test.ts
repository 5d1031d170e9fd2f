import { randomUUID } from "node:crypto"
import { expect, test } from "vitest"
import {
  findSnapshot,
  readLiveSnapshot,
  readRootPointer,
  readRootPointerIfChanged,
} from "../../../src/manifest/formats.js"
import { POINTER_KEY } from "../../../src/manifest/keys.js"
import { openMemoryStore } from "../../../src/storage/memory.js"
import type { ObjectStore } from "../../../src/storage/store.js"
import { publishTiny, storeTiny } from "../../support/tiny-snapshot.js"

const emptyStore = (): ObjectStore => openMemoryStore(randomUUID())
const [LIVE, OTHER] = ["a".repeat(12), "b".repeat(12)] as const

test("a root is recognised by its pointer", async () => {
  const store = emptyStore()
  expect(await readRootPointer(store)).toBeUndefined()
  await publishTiny(store, LIVE)
  const pointer = (await readRootPointer(store))!
  expect(pointer).toMatchObject({ run: LIVE, condemned: [], format: { name: "vecsnap" } })
  expect(await readRootPointerIfChanged(store, pointer.etag)).toBe("unchanged")
  await publishTiny(store, OTHER)
  expect(await readRootPointerIfChanged(store, pointer.etag)).toMatchObject({ run: OTHER })
})

test.each([
  ["bytes that are no JSON", Buffer.from([0x7b, 0xff])],
  ["no object", Buffer.from("[]")],
  ["a document that no format knows", Buffer.from('{"format":"other"}')],
])("a pointer with %s is told of in words of our own format", async (_, body) => {
  const store = emptyStore()
  await store.put(POINTER_KEY, body)
  await expect(readRootPointer(store)).rejects.toMatchObject({
    tag: "Corrupt",
    message: expect.stringMatching(/^_CURRENT is damaged: its \d+ bytes do not end in their own SHA-256$/),
  })
})

test("the live snapshot is what the pointer names", async () => {
  const store = emptyStore()
  await expect(readLiveSnapshot(store)).rejects.toMatchObject({ tag: "NotFound" })
  const { publication } = await publishTiny(store, LIVE)
  const { snapshot, publishedAt } = await readLiveSnapshot(store)
  expect(snapshot).toMatchObject({ run: LIVE, rows: 1, backend: "sqlite-vec" })
  expect(publishedAt).toEqual(publication.publishedAt)
})

test("a snapshot is found by its run, live or not", async () => {
  const store = emptyStore()
  const { manifest } = await storeTiny(store, OTHER)
  const unpublished = await findSnapshot(store, OTHER)
  expect(unpublished).toMatchObject({ snapshot: { run: OTHER }, publishedAt: manifest.createdAt })
  expect(unpublished.pointer).toBeUndefined()

  await publishTiny(store, LIVE)
  expect(await findSnapshot(store, LIVE)).toMatchObject({ snapshot: { run: LIVE }, pointer: { run: LIVE } })
  expect((await findSnapshot(store, OTHER)).pointer).toBeUndefined()
  await expect(findSnapshot(store, "c".repeat(12))).rejects.toMatchObject({ tag: "NotFound" })
  await expect(findSnapshot(store, "a run")).rejects.toMatchObject({
    tag: "InvalidInput",
    message: 'option snapshot is "a run", expected a run id: 12 characters of a-z and 0-9',
  })
})
