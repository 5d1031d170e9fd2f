import { readFile } from "node:fs/promises"
import { gzipSync } from "node:zlib"
import { describe, expect, it } from "vitest"
import { encodeNpy } from "../../../src/vectors/npy.js"
import { inputFixture } from "../../support/paths.js"
import { failureOf, readInputs, useDirectory } from "./helpers.js"

const dir = useDirectory()
const npy = (name: string) => inputFixture(`20-npy-kinds/${name}`)
const other = (name: string) => inputFixture(`21-other-containers/${name}`)
const VECTORS = [
  [1, 0.5],
  [0.25, 2],
  [3, 4],
]

describe(".npy of all kinds", () => {
  it("may hold integers", async () => {
    expect((await readInputs(npy("i8.npy"))).vectors).toEqual([
      [1, -2],
      [3, 4],
    ])
    expect((await readInputs(npy("i32.npy"))).vectors).toEqual([
      [1, 0],
      [0, 2],
      [3, 4],
    ])
  })

  it("may be several files, whose ids go on", async () => {
    const files = [npy("emb_0.npy"), npy("emb_1.npy")]
    expect((await readInputs(files)).ids).toEqual([0n, 1n, 2n, 3n, 4n, 5n])
    const ids = await dir.write("six.txt", "a\nb\nc\nd\ne\nf\n")
    expect((await readInputs(files, { ids })).ids).toEqual(["a", "b", "c", "d", "e", "f"])
    const seven = await dir.write("seven.txt", "a\nb\nc\nd\ne\nf\ng\n")
    expect((await failureOf(readInputs(files, { ids: seven }))).message).toBe(
      `${seven} has more ids than the 6 rows of 2 files`,
    )
  })

  it("takes ids from texts and unsigned integers, and from a column of Parquet", async () => {
    const vectors = npy("emb_0.npy")
    expect((await readInputs(vectors, { ids: npy("ids_str.npy") })).ids).toEqual(["a", "b", "c"])
    expect((await readInputs(vectors, { ids: npy("ids_u8.npy") })).ids).toEqual([1n, 2n, 3n])
    const three = inputFixture("01-binary-vectors/blob.parquet")
    expect((await readInputs(vectors, { ids: three })).ids).toEqual([1n, 2n, 3n])
    expect((await readInputs(vectors, { ids: inputFixture("01-binary-vectors/blob.arrow") })).ids).toEqual([
      1n,
      2n,
      3n,
    ])
    expect((await failureOf(readInputs(vectors, { ids: three, idColumn: "key" }))).message).toContain(
      'has no column "key"; its columns are "id", "embedding"; name the right one as the id column',
    )
  })

  it.each([
    ["obj.npy", "holds Python objects, expected float, int or uint"],
    ["struct.npy", "holds records of several fields"],
    ["bf16.npy", "as bfloat16 is saved: save it with a.astype('float32')"],
    ["fortran.npy", "is in Fortran order; save it with numpy.ascontiguousarray(...)"],
  ])("is sound, but not read: %s", async (name, message) => {
    expect(await failureOf(readInputs(npy(name)))).toMatchObject({
      tag: "Unsupported",
      message: expect.stringContaining(message),
    })
  })

  it("names the line of an id that is missing or not UTF-8", async () => {
    const blank = npy("ids_blank.txt")
    expect((await failureOf(readInputs(npy("emb_0.npy"), { ids: blank }))).message).toMatch(
      /row 2: column "id" is missing, expected an id$/,
    )
    const vectors = inputFixture("05-npy-ids-latin1/v.npy")
    for (const name of ["ids_latin1.txt", "ids_latin1b.txt"]) {
      const ids = inputFixture(`05-npy-ids-latin1/${name}`)
      const { message, tag } = await failureOf(readInputs(vectors, { ids }))
      expect(tag).toBe("InvalidInput")
      expect(message).toMatch(/v\.npy, row \d: column "id" is not UTF-8, in line \d of .*\.txt$/)
    }
  })
})

describe("other containers of vectors", () => {
  it.each(["a.npz", "base.fvecs", "base.fbin"])("%s is read", async (name) => {
    const { ids, vectors } = await readInputs(other(name))
    expect([ids, vectors]).toEqual([[0n, 1n, 2n], VECTORS])
    const given = await dir.write("three.txt", "a\nb\nc\n")
    expect((await readInputs(other(name), { ids: given })).ids).toEqual(["a", "b", "c"])
  })

  it(".npz may be compressed, and brings its ids", async () => {
    const { ids, vectors } = await readInputs(inputFixture("containers/ids.npz"))
    expect([ids, vectors]).toEqual([["x", "y", "z"], VECTORS])
    expect((await failureOf(readInputs(inputFixture("containers/two.npz")))).message).toContain(
      'has several arrays of shape (rows, dimension): its arrays are "a", "b"; name the one of the vectors "vectors"',
    )
  })

  it("finds any damaged byte of the values of an .npz", async () => {
    const whole = await readFile(inputFixture("containers/ids.npz"))
    for (let length = 0; length < whole.length; length += 5) {
      const path = await dir.write("cut.npz", whole.subarray(0, length))
      expect([length, (await failureOf(readInputs(path))).tag]).toEqual([length, "Corrupt"])
    }
    for (let place = 0; place < whole.length; place += 3) {
      const bytes = Buffer.from(whole)
      bytes[place]! ^= 0x40
      const path = await dir.write("damaged.npz", bytes)
      const read = await readInputs(path).catch((error: unknown) => error)
      if (read instanceof Error) expect(read).toHaveProperty("tag")
      else expect(read).toMatchObject({ vectors: VECTORS })
    }
  })

  it(".bvecs, .u8bin and .i8bin are bytes, each of its kind", async () => {
    const row = (...values: number[]) => [2, 0, 0, 0, ...values]
    const bvecs = await dir.write("a.bvecs", Uint8Array.of(...row(1, 255), ...row(0, 3)))
    expect((await readInputs(bvecs)).vectors).toEqual([
      [1, 255],
      [0, 3],
    ])
    const bin = Uint8Array.of(1, 0, 0, 0, 2, 0, 0, 0, 1, 255)
    expect((await readInputs(await dir.write("a.u8bin", bin))).vectors).toEqual([[1, 255]])
    expect((await readInputs(await dir.write("a.i8bin", bin))).vectors).toEqual([[1, -1]])
    expect((await failureOf(readInputs(await dir.write("cut.i8bin", bin.subarray(0, 9))))).message).toMatch(
      /has 9 bytes, expected 10 by its header/,
    )
    expect(
      (await failureOf(readInputs(await dir.write("cut.bvecs", Uint8Array.from(row(1, 2).slice(0, 5)))))).tag,
    ).toBe("Corrupt")
    const uneven = Uint8Array.of(...row(1, 2), 1, 0, 0, 0, 9, 9)
    expect((await failureOf(readInputs(await dir.write("uneven.bvecs", uneven)))).message).toMatch(
      /row 2 has 1 values, expected 2 as in the rows before/,
    )
  })

  it("GloVe and word2vec texts are read, words as ids", async () => {
    const { ids, vectors } = await readInputs(other("glove.txt"))
    expect([ids, vectors]).toEqual([
      ["the", "of"],
      [
        [0.1, 0.2],
        [0.3, 0.4],
      ].map((v) => v.map(Math.fround)),
    ])
    const vec = await dir.write("a.vec.gz", gzipSync("3 2\n1 0.5 -1 \n. . 2 3 \n日本 1e-1 4\n"))
    expect((await readInputs(vec)).ids).toEqual(["1", ". .", "日本"])
    const cut = await dir.write("cut.vec", "3 2\na 1 2\nb 3 4\n")
    expect(await failureOf(readInputs(cut))).toMatchObject({
      tag: "Corrupt",
      message: `${cut} has 2 words, expected 3 by its first line; is it cut off?`,
    })
    const bad = await dir.write("bad.txt", Buffer.from("a 1 2\nb 3\nc 4 x\n\xe9 1 2\n", "latin1"))
    const messages: string[] = []
    await readInputs(bad, {}, { onBadRow: (error) => messages.push(error.message) })
    expect(messages).toEqual([
      `${bad}, line 2: has 2 parts, expected a word and 2 numbers, as in word2vec and GloVe`,
      `${bad}, line 3: has "x" at position 1, expected a number`,
      `${bad}, line 4: is not UTF-8`,
    ])
  })

  it.each([
    ["glove.hdf5", 'is HDF5, which is not read: save the array with numpy.save(f, file["train"][:])'],
    ["emb.safetensors", "is safetensors, which is not read: save the array with numpy.save"],
  ])("%s is named, with the way out", async (name, message) => {
    expect(await failureOf(readInputs(other(name)))).toMatchObject({
      tag: "Unsupported",
      message: expect.stringContaining(message),
    })
  })

  it("are told by their first bytes, where they have any", async () => {
    const array = encodeNpy({ shape: [1, 2], data: Float32Array.of(1, 2) })
    expect((await readInputs(await dir.write("array", array))).vectors).toEqual([[1, 2]])
    const hdf5 = await dir.write("unnamed", await readFile(other("glove.hdf5")))
    expect((await failureOf(readInputs(hdf5))).message).toContain("is HDF5, which is not read")
  })
})

describe("float16 with BYTE_STREAM_SPLIT in Parquet", () => {
  it("is refused, in DuckDB's words", async () => {
    const path = inputFixture("28-float16-byte-stream-split/f16.parquet")
    expect(await failureOf(readInputs(path))).toMatchObject({
      tag: "InvalidInput",
      message: expect.stringMatching(
        /f16\.parquet cannot be read: .*BYTE_STREAM_SPLIT encoding is only supported/,
      ),
    })
  })
})
