import { mkdtemp, readdir, readFile, rename, rm, symlink, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import fc from "fast-check"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { isVecsnapError } from "../../../../src/errors.js"
import { buildShard } from "../../../../src/shards/lancedb/build.js"
import { readLanceManifest } from "../../../../src/shards/lancedb/manifest-file.js"
import { createPool } from "../../../../src/shards/lancedb/pool.js"
import { noiseRows, openShard, rowsOf, specOf } from "../../../contract/shard-rows.js"

const SPEC = specOf(8)

let dir: string
let versions: string
let file: string
let sound: Uint8Array

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "vecsnap-lance-manifest-"))
  await buildShard(rowsOf(noiseRows(40, 8), SPEC), dir, SPEC)
  versions = join(dir, "vectors.lance", "_versions")
  const [name] = await readdir(versions)
  file = join(versions, name!)
  sound = await readFile(file)
})

afterAll(() => rm(dir, { recursive: true }))

// --- Messages, written by hand

const varint = (value: bigint | number): number[] => {
  const bytes: number[] = []
  let rest = BigInt.asUintN(64, BigInt(value))
  for (; rest >= 128n; rest >>= 7n) bytes.push(Number(rest & 127n) | 128)
  return [...bytes, Number(rest)]
}
const number = (field: number, value: bigint | number): number[] => [...varint(field << 3), ...varint(value)]
const bytes = (field: number, content: readonly number[] | string): number[] => {
  const list = typeof content === "string" ? [...Buffer.from(content)] : content
  return [...varint((field << 3) | 2), ...varint(list.length), ...list]
}
const section = (message: readonly number[]): number[] => {
  const length = Buffer.alloc(4)
  length.writeUInt32LE(message.length)
  return [...length, ...message]
}
/** A file of an index section, if there is one, and a manifest that refers to it. */
function manifestFile(manifest: readonly number[], indices?: readonly number[]): Uint8Array {
  const first = indices === undefined ? [] : section(indices)
  const reference = indices === undefined ? [] : number(6, 0)
  const trailer = Buffer.alloc(16)
  trailer.writeBigInt64LE(BigInt(first.length))
  trailer.writeUInt16LE(2, 10)
  trailer.write("LANC", 12, "latin1")
  return Uint8Array.from([...first, ...section([...manifest, ...reference]), ...trailer])
}
const read = (manifest: readonly number[], indices?: readonly number[]) =>
  readLanceManifest(manifestFile(manifest, indices), "m.manifest")

const UUID = [...Buffer.from("00112233445566778899aabbccddeeff", "hex")]
const details = bytes(1, "/lance.index.pb.VectorIndexDetails")
const index = [...bytes(1, bytes(1, UUID)), ...bytes(3, "vector_idx"), ...bytes(6, details)]
const dataFile = [...bytes(1, "0123abc.lance"), ...number(6, 77)]

describe("readLanceManifest", () => {
  it("finds the files and rows of a table that we build", async () => {
    const { rows, files } = readLanceManifest(sound, "m.manifest")
    expect(rows).toBe(40)
    const names = await readdir(join(dir, "vectors.lance"), { recursive: true, withFileTypes: true })
    const stored = names
      .filter((entry) => entry.isFile() && !entry.name.endsWith(".manifest"))
      .map((entry) => join(entry.parentPath, entry.name).slice(join(dir, "vectors.lance").length + 1))
    expect(files.map(({ path }) => path).sort()).toEqual(stored.sort())
  })

  it("reads fragments, deleted rows and indices", () => {
    const deletion = [...number(1, 1), ...number(2, 3), ...number(3, 9), ...number(4, 2)]
    const fragment = [...number(1, 5), ...bytes(2, dataFile), ...bytes(3, deletion), ...number(4, 12)]
    const listed = [...index, ...bytes(10, [...bytes(1, "index.idx"), ...number(2, 5)])]
    expect(read([...bytes(2, fragment), ...number(9, 3)], bytes(1, listed))).toEqual({
      rows: 12,
      files: [
        { path: "data/0123abc.lance", size: 77 },
        { path: "_deletions/5-3-9.bin", size: 0 },
        { path: "_indices/00112233-4455-6677-8899-aabbccddeeff/index.idx", size: 5 },
      ],
    })
  })

  it.each<[string, () => unknown, RegExp]>([
    ["base paths", () => read(bytes(18, bytes(4, "s3://elsewhere/x"))), /names base paths/],
    [
      "a data file of a base path",
      () => read(bytes(2, bytes(2, [...dataFile, ...number(7, 0)]))),
      /data file .*unknown field, number 7/,
    ],
    [
      "a deletion file of a base path",
      () => read(bytes(2, bytes(3, number(7, 0)))),
      /deletion file .*unknown field, number 7/,
    ],
    [
      "an index of a base path",
      () => read([], bytes(1, [...index, ...number(9, 0)])),
      /index .*unknown field, number 9/,
    ],
    [
      "an absolute path",
      () => read(bytes(2, bytes(2, bytes(1, "/etc/passwd.lance")))),
      /data file "\/etc\/passwd.lance"/,
    ],
    [
      "a path with dots",
      () => read(bytes(2, bytes(2, bytes(1, "../../x.lance")))),
      /data file "..\/..\/x.lance"/,
    ],
    ["a URL", () => read(bytes(2, bytes(2, bytes(1, "file:///x.lance")))), /data file "file:/],
    ["no path", () => read(bytes(2, bytes(2, number(6, 5)))), /data file ""/],
    [
      "row ids in a file",
      () => read(bytes(2, bytes(6, bytes(1, "x")))),
      /fragment .*unknown field, number 6/,
    ],
    ["overlays", () => read(bytes(2, bytes(11, []))), /fragment .*unknown field, number 11/],
    ["a branch", () => read(bytes(20, "main")), /manifest .*unknown field, number 20/],
    ["a feature of later versions", () => read(number(9, 16)), /unknown features, flags 16/],
    [
      "an index file elsewhere",
      () => read([], bytes(1, [...index, ...bytes(10, bytes(1, "../index.idx"))])),
      /index file "..\/index.idx"/,
    ],
    [
      "an index of another kind",
      () =>
        read(
          [],
          bytes(1, [
            ...bytes(1, bytes(1, UUID)),
            ...bytes(6, bytes(1, "/lance.table.FragmentReuseIndexDetails")),
          ]),
        ),
      /index of type "\/lance.table.Frag/,
    ],
    ["an id that is no UUID", () => read([], bytes(1, bytes(1, bytes(1, [1, 2])))), /not a UUID/],
    ["a section outside the file", () => read(number(6, 10_000)), /section at 10000/],
    ["a number without end", () => read([8, ...Array(11).fill(255)]), /more than ten bytes/],
    ["a field that is cut", () => read([10, 5, 1]), /ends within a field/],
    [
      "other bytes",
      () => readLanceManifest(Uint8Array.of(1, 2, 3), "m.manifest"),
      /does not end with "LANC"/,
    ],
  ])("refuses %s", (_, act, message) => {
    expect(act).toThrow(expect.objectContaining({ tag: "Corrupt", message: expect.stringMatching(message) }))
    expect(act).toThrow(/m\.manifest is not a manifest that a shard can have/)
  })

  it("gives a typed error or an answer for any bytes", () => {
    fc.assert(
      fc.property(fc.nat(sound.length - 1), fc.uint8Array({ minLength: 1, maxLength: 6 }), (at, patch) => {
        const changed = Uint8Array.from(sound)
        changed.set(patch.subarray(0, changed.length - at), at)
        try {
          const { files } = readLanceManifest(changed, "m.manifest")
          for (const { path } of files) expect(path).toMatch(/^(data|_indices|_deletions)\/[\w./-]+$/)
          for (const { path } of files) expect(path).not.toContain("..")
        } catch (error) {
          if (!isVecsnapError(error, "Corrupt")) throw error
        }
      }),
      { numRuns: 2000 },
    )
  })
})

describe("opening a table", () => {
  const opening = async () => {
    const pool = createPool({})
    try {
      const shard = await openShard(pool, dir, SPEC, { kind: "ivf_flat", partitions: 1, probes: 1 })
      await shard.close()
    } finally {
      await pool.close()
    }
  }

  it("refuses a manifest that leads elsewhere before LanceDB reads it", async () => {
    const evil = [...sound]
    // The manifest's own section is the last one: base paths are added at its end.
    const trailer = evil.splice(-16)
    const position = Number(Buffer.from(trailer).readBigInt64LE())
    const extra = bytes(18, [...number(1, 1), ...bytes(4, "file:///etc")])
    const length = Buffer.from(evil.slice(position, position + 4)).readUInt32LE() + extra.length
    const changed = Buffer.from([...evil, ...extra, ...trailer])
    changed.writeUInt32LE(length, position)
    await writeFile(file, changed)
    await expect(opening()).rejects.toMatchObject({
      tag: "Corrupt",
      message: expect.stringMatching(/base paths/),
    })
    await writeFile(file, sound)
    await opening()
  })

  it("refuses a version beside it that has another name", async () => {
    await writeFile(join(versions, "d1.manifest"), sound)
    await expect(opening()).rejects.toMatchObject({
      tag: "Corrupt",
      message: expect.stringMatching(/"d1.manifest"/),
    })
    await rm(join(versions, "d1.manifest"))
  })

  it("refuses a link in place of a data file, and one of another size", async () => {
    const data = join(dir, "vectors.lance", "data")
    const [name] = await readdir(data)
    const path = join(data, name!)
    const content = await readFile(path)
    await rename(path, join(dir, "elsewhere"))
    await symlink(join(dir, "elsewhere"), path)
    await expect(opening()).rejects.toMatchObject({
      tag: "Corrupt",
      message: expect.stringMatching(/not there as a file/),
    })
    await rm(path)
    await writeFile(path, content.subarray(1))
    await expect(opening()).rejects.toMatchObject({
      tag: "Corrupt",
      message: expect.stringMatching(/bytes, expected/),
    })
    await writeFile(path, content)
    await opening()
  })
})
