import { describe, expect, test } from "vitest"
import { decodeNpz, encodeNpz } from "../../../src/vectors/npz.js"

const ARRAYS = {
  "a.npy": { shape: [2, 3], data: Float32Array.of(1, 2, 3, 4, 5, -0) },
  "b.npy": { shape: [3], data: Int32Array.of(-1, 0, 7) },
  "ü.npy": { shape: [0], data: new Float64Array(0) },
}

function patched(file: Buffer, at: number, byte: number): Buffer {
  file[at] = byte
  return file
}

describe("npz", () => {
  test("keeps arrays, their order and their bytes", () => {
    const file = encodeNpz(ARRAYS)
    expect(decodeNpz(file, "x")).toEqual(ARRAYS)
    expect(Object.keys(decodeNpz(file, "x"))).toEqual(Object.keys(ARRAYS))
    expect(encodeNpz(ARRAYS)).toEqual(file)
  })

  test("is a zip archive: a directory that leads to every entry, with the CRC of its bytes", () => {
    const file = Buffer.from(encodeNpz({ "b.npy": ARRAYS["b.npy"] }))
    const end = file.length - 22
    expect(file.readUInt32LE(end).toString(16)).toBe("6054b50")
    const directory = file.readUInt32LE(end + 16)
    expect(directory + file.readUInt32LE(end + 12)).toBe(end)
    expect(file.readUInt32LE(directory).toString(16)).toBe("2014b50")
    expect(file.readUInt32LE(directory + 42)).toBe(0)
    expect(file.readUInt32LE(directory + 16)).toBe(file.readUInt32LE(14))
  })

  test.each([
    ["empty", (_: Buffer) => Buffer.alloc(0), /expected an entry or the directory at byte 0/],
    ["cut within an array", (file: Buffer) => file.subarray(0, 60), /holds "a.npy" compressed or incomplete/],
    ["compressed", (file: Buffer) => patched(file, 8, 8), /holds "a.npy" compressed/],
    ["of another kind", (file: Buffer) => file.fill(1), /is no .npz file/],
    ["with a bad array", (file: Buffer) => patched(file, 36, 0), /x: a.npy/],
  ])("that is %s is Corrupt", (_, damage, message) => {
    const read = () => decodeNpz(damage(Buffer.from(encodeNpz(ARRAYS))), "x")
    expect(read).toThrow(expect.objectContaining({ tag: "Corrupt", message: expect.stringMatching(message) }))
  })
})
