import { describe, expect, it } from "vitest"
import { resolveWriterOptions, type WriterOptions } from "../../../src/writer/options.js"

const resolve = (options: object) =>
  resolveWriterOptions({ sharding: { strategy: "lsh", shards: 2 }, ...options } as WriterOptions)

describe("options of a build", () => {
  it("have their defaults, also where undefined is given", () => {
    const defaults = {
      metric: "cosine",
      backend: "sqlite-vec",
      onBadRow: "fail",
      maxBadRows: 1000,
      onDuplicate: "fail",
      reuse: true,
      locator: true,
      memoryLimit: 2 ** 30,
      custom: {},
      certificateRows: 1000,
    }
    expect(resolve({})).toMatchObject(defaults)
    expect(resolve({ metric: undefined, maxBadRows: undefined, locator: undefined })).toMatchObject(defaults)
    expect(resolve({ metric: "dot", reuse: false })).toMatchObject({
      ...defaults,
      metric: "dot",
      reuse: false,
    })
  })

  it("take for custom what JSON can hold, and leave out what is undefined", () => {
    interface Origin {
      readonly commit: string
      readonly dirty?: boolean | undefined
    }
    const origin: Origin = { commit: "1a2b", dirty: undefined }
    expect(resolveWriterOptions({ custom: origin }).custom).toEqual({ commit: "1a2b" })
    expect(() => resolve({ custom: [1] })).toThrow("option custom is a list, expected an object")
    expect(() => resolve({ custom: { at: new Date(0) } })).toThrow(
      "option custom.at is a Date, which JSON cannot hold",
    )
  })

  it("hold out rows for the certificate as it says", () => {
    const rows = (certificate: unknown) => resolve({ certificate }).certificateRows
    expect([true, {}, { rows: 5 }, false].map(rows)).toEqual([1000, 1000, 5, 0])
  })

  it.each([
    [{ metric: "cos" }, 'option metric is "cos", expected one of cosine, l2, dot'],
    [{ backend: "faiss" }, 'option backend is "faiss", expected one of sqlite-vec, lancedb'],
    [{ onBadRow: "ignore" }, 'option onBadRow is "ignore", expected one of fail, skip'],
    [{ onDuplicate: "both" }, 'option onDuplicate is "both", expected one of fail, first, last'],
    [
      { fields: { lang: "text" } },
      'option fields.lang is "text", expected one of string, int64, float64, bool',
    ],
    [{ certificate: "yes" }, "option certificate is yes, expected true, false or { rows }"],
    [{ index: { probes: 1 } }, "the sqlite-vec backend has no option index.probes; it has none"],
  ])("refuse %o", (options, message) => {
    expect(() => resolve(options)).toThrow(message)
  })

  it.each(["maxBadRows", "parallelism", "memoryLimit"])("take whole numbers only for %s", (option) => {
    expect(() => resolve({ [option]: 1.5 })).toThrow(option)
    expect(() => resolve({ [option]: -1 })).toThrow(option)
    expect(resolve({ [option]: 7 })).toMatchObject({ [option]: 7 })
  })

  it("take at least one row for the certificate", () => {
    expect(() => resolve({ certificate: { rows: 0 } })).toThrow("certificate.rows")
  })
})
