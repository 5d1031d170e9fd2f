import { readFile } from "node:fs/promises"
import { describe, expect, it } from "vitest"
import { unlz4 } from "../../../src/sources/lz4.js"
import { unzstd, ZstdStream } from "../../../src/sources/zstd.js"
import { inputFixture } from "../../support/paths.js"
import { failureOf, readInputs } from "./helpers.js"

/** `[frame, plain text]`, as the programs zstd and lz4 write them. */
const frames = async (name: string): Promise<{ readonly bytes: Buffer; readonly plain: string }> => ({
  bytes: await readFile(inputFixture(`compressed/${name}`)),
  plain: await readFile(inputFixture("compressed/plain.txt"), "latin1"),
})

function streamed(bytes: Uint8Array, step: number): string {
  const stream = new ZstdStream()
  let text = ""
  for (let start = 0; start < bytes.length; start += step)
    for (const part of stream.push(bytes.subarray(start, start + step)))
      text += Buffer.from(part).toString("latin1")
  stream.end()
  return text
}

describe("zstd", () => {
  it("finds by the checksum that data is damaged", async () => {
    const failure = await failureOf(readInputs(inputFixture("06-zst-checksum/flip.jsonl.zst")))
    expect(failure).toMatchObject({
      tag: "Corrupt",
      message: expect.stringContaining("its zstd data cannot be read (its checksum is wrong)"),
    })
  })

  it.each(["checked.zst", "sized.zst", "plain.zst"])("is read however it is cut: %s", async (name) => {
    const { bytes, plain } = await frames(name)
    for (const step of [1, 7, 1000, bytes.length]) expect(streamed(bytes, step)).toBe(plain)
    expect(Buffer.from(unzstd(bytes, plain.length)).toString("latin1")).toBe(plain)
    const skipped = Buffer.from("502a4d1803000000616263", "hex")
    expect(streamed(Buffer.concat([skipped, bytes, skipped, bytes]), 100)).toBe(plain + plain)
    for (const length of [1, 5, 20, bytes.length - 1])
      expect(() => streamed(bytes.subarray(0, length), 64)).toThrow()
    expect(() => streamed(Buffer.concat([bytes, Buffer.from("what is this?")]), 64)).toThrow("is not one")
  })

  it("finds every damaged byte of a frame with a checksum", async () => {
    const { bytes, plain } = await frames("checked.zst")
    for (let place = 0; place < bytes.length; place += 3) {
      const damaged = Buffer.from(bytes)
      damaged[place]! ^= 0x10
      for (const run of [
        () => streamed(damaged, 512),
        () => Buffer.from(unzstd(damaged, plain.length)).toString("latin1"),
      ]) {
        let text: string | undefined
        try {
          text = run()
        } catch {}
        // Bits that mean nothing may differ.
        if (text !== undefined) expect([place, text === plain]).toEqual([place, true])
      }
    }
  })
})

describe("LZ4", () => {
  it.each(["checked.lz4", "linked.lz4"])("is read, and damage is found: %s", async (name) => {
    const { bytes, plain } = await frames(name)
    expect(Buffer.from(unlz4(bytes, plain.length)).toString("latin1")).toBe(plain)
    for (const length of [0, 5, 20, bytes.length >> 1, bytes.length - 1])
      expect(() => unlz4(bytes.subarray(0, length), plain.length)).toThrow()
    for (const size of [0, plain.length - 1, plain.length + 1, 2 ** 45])
      expect(() => unlz4(bytes, size)).toThrow()
    for (let place = 0; place < bytes.length; place += 5) {
      const damaged = Buffer.from(bytes)
      damaged[place]! ^= 0x21
      expect(() => unlz4(damaged, plain.length)).toThrow()
    }
  })
})
