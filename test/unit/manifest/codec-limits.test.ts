/** The limits of docs/security.md: what has exactly as much is read, what has one more is not. */
import { expect, it } from "vitest"
import { parseJson } from "../../../src/json.js"
import { decodeManifest, encodeManifest, MANIFEST_MAX_BYTES } from "../../../src/manifest/codec.js"
import { POINTER_MAX_BYTES, readManifest, readPointer } from "../../../src/manifest/current.js"
import { manifestKey, POINTER_KEY } from "../../../src/manifest/keys.js"
import type { Manifest } from "../../../src/manifest/manifest.js"
import { compileCel } from "../../../src/sharding/cel/program.js"
import { openMemoryStore } from "../../../src/storage/memory.js"
import { storeTiny } from "../../support/tiny-snapshot.js"

const RUN = "k3v9x2m4q7ab"
const SHA = "a".repeat(64)
const tiny = (await storeTiny(openMemoryStore("codec-limits"), RUN)).manifest
const key = manifestKey(tiny.createdAt, RUN)
const decode = (change: Partial<Manifest>): Manifest =>
  decodeManifest(encodeManifest({ ...tiny, ...change }), key)

const files = (name: string): Pick<Manifest, "shards"> => ({
  shards: [
    {
      ...tiny.shards[0]!,
      files: [...tiny.shards[0]!.files, { name, size: 1, sha256: SHA, optional: true }],
    },
  ],
})
const artifacts = (...sizes: number[]): Pick<Manifest, "artifacts"> => ({
  artifacts: sizes.map((size, i) => ({ key: `routing/${RUN}/${i}.npy`, size, sha256: SHA })),
})
const locator = (size: number): Pick<Manifest, "locator"> => ({
  locator: { key: `routing/${RUN}/ids.bin`, size: 2 ** 40, sha256: SHA, index: { size, sha256: SHA } },
})

it.each<[string, (more: number) => Partial<Manifest>]>([
  ["1,048,576 dimensions", (more) => ({ schema: { ...tiny.schema, dim: 1_048_576 + more } })],
  ["65,536 shards", (more) => ({ sharding: { ...tiny.sharding, shards: 65_536 + more } })],
  ["an index of the locator of 64 MiB", (more) => locator(64 * 2 ** 20 + more)],
  ["routing artifacts of 512 MiB", (more) => artifacts(256 * 2 ** 20, 256 * 2 ** 20 + more)],
  ["64 routing artifacts", (more) => artifacts(...Array.from({ length: 64 + more }, () => 1))],
  ["a part of a file name of 255 bytes", (more) => files("x".repeat(255 + more))],
  ["16 parts of a file name", (more) => files(`${"a/".repeat(15 + more)}x`)],
])("%s at most", (_, change) => {
  expect(decode(change(0)).run).toBe(RUN)
  expect(() => decode(change(1))).toThrow(expect.objectContaining({ tag: "Corrupt" }))
})

it("a pointer of 64 KiB and a manifest of 128 MiB are the longest that are read", async () => {
  expect([POINTER_MAX_BYTES, MANIFEST_MAX_BYTES]).toEqual([64 * 2 ** 10, 128 * 2 ** 20])
  const store = openMemoryStore("codec-limits-sizes")
  await store.put(POINTER_KEY, Buffer.alloc(POINTER_MAX_BYTES + 1))
  await store.put(key, Buffer.alloc(MANIFEST_MAX_BYTES + 1))
  const tooLarge = (bytes: number) =>
    expect.objectContaining({ tag: "Corrupt", message: expect.stringContaining(`${bytes} bytes`) })
  await expect(readPointer(store)).rejects.toEqual(tooLarge(POINTER_MAX_BYTES + 1))
  await expect(readManifest(store, key)).rejects.toEqual(tooLarge(MANIFEST_MAX_BYTES + 1))
})

it("JSON has 500 levels, integers of 1,000 digits, and as many values as are asked for", () => {
  const levels = (count: number) => "[".repeat(count) + "]".repeat(count)
  const values = (count: number) => `[${Array.from({ length: count }, () => "1").join()}]`
  for (const [read, most] of [
    [(n: number) => parseJson(levels(n)), 500],
    [(n: number) => parseJson("9".repeat(n)), 1000],
    [(n: number) => parseJson(values(n), 20), 20],
  ] as const) {
    expect(() => read(most)).not.toThrow()
    expect(() => read(most + 1)).toThrow(SyntaxError)
  }
})

it("a sharding expression has 10,000 characters at most", () => {
  const expression = (characters: number) => `"${"a".repeat(characters - 9)}" == "b"`
  const tooLong = /characters, expected at most 10000/
  expect(() => compileCel(expression(10_001), [])).toThrow(tooLong)
  expect(() => compileCel(expression(10_000), [])).not.toThrow(tooLong)
})
