import fc from "fast-check"
import { describe, expect, test } from "vitest"
import {
  type CodebookOptions,
  decodeCodebook,
  encodeCodebook,
  stillFits,
  trainCodebook,
} from "../../../../src/vectors/cells/codebook.js"
import { CODED_ROWS_MIN, shardCells } from "../../../../src/vectors/cells/shard.js"
import { METRICS } from "../../../../src/vectors/metric.js"
import { createRandom } from "../../../../src/vectors/random.js"

/** Rows that lie near few planes, or anywhere. */
function makeSample(rows: number, dim: number, inner: number, seed: number): Float32Array {
  const random = createRandom(seed)
  const planes = Array.from({ length: inner }, () => Float32Array.from({ length: dim }, random.gaussian))
  const sample = new Float32Array(rows * dim)
  for (let row = 0; row < rows; row++) {
    for (const plane of planes) {
      const share = random.gaussian()
      for (let i = 0; i < dim; i++) sample[row * dim + i]! += share * plane[i]!
    }
  }
  return sample
}

describe("trainCodebook", () => {
  test("takes a smaller code where that is good enough", () => {
    // Nearest rows stand out from the others where there are few dimensions to differ in.
    const few = trainCodebook("cosine", makeSample(3000, 64, 6, 1), 64)
    expect(few.books.width).toBe(4)
    expect(few.best).toBeLessThanOrEqual(300)
    const many = trainCodebook("cosine", makeSample(3000, 24, 24, 2), 24)
    expect(many.books.width).toBeLessThan(4)
  })

  test("takes the width that is asked for", () => {
    const sample = makeSample(300, 7, 7, 3)
    for (const width of [1, 2, 4] as const) {
      const { books, rowsPerCell } = trainCodebook("l2", sample, 7, { width, rowsPerCell: 12 })
      expect(books.width).toBe(width)
      expect(books.subspaces).toBe(Math.ceil(7 / width))
      expect(rowsPerCell).toBe(12)
    }
    const errors = ([1, 2, 4] as const).map((width) => trainCodebook("l2", sample, 7, { width }).error)
    expect(errors).toEqual(errors.toSorted((a, b) => a - b))
  })

  test("looks at no more rows than it says", () => {
    const sample = makeSample(32_768, 3, 3, 4)
    const longer = new Float32Array(sample.length + 300)
    longer.set(sample)
    const options: CodebookOptions = { width: 2, rowsPerCell: 2000 }
    expect(trainCodebook("dot", longer, 3, options)).toEqual(trainCodebook("dot", sample, 3, options))
  })

  test.each(METRICS)("%s: no rows or equal ones make a codebook, too", (metric) => {
    for (const rows of [0, 1, 2, 50]) {
      const { books, best } = trainCodebook(metric, new Float32Array(rows * 3).fill(2), 3)
      expect(books.centres.every(Number.isFinite)).toBe(true)
      expect(best).toBeGreaterThan(0)
    }
  })
})

describe("the file of a codebook", () => {
  const codebook = trainCodebook("l2", makeSample(200, 5, 5, 6), 5, { width: 2 })

  test("gives it back", () => {
    for (const metric of METRICS) {
      const made = trainCodebook(metric, makeSample(100, 3, 3, 7), 3)
      expect(decodeCodebook(encodeCodebook(made), "codes.npz")).toEqual(made)
    }
  })

  test("cut off or with any byte changed is refused, or another codebook of the same shape", () => {
    const bytes = encodeCodebook(codebook)
    // What follows the arrays repeats what they say of themselves.
    const end = Buffer.from(bytes).indexOf(Buffer.of(0x50, 0x4b, 1, 2))
    for (let length = 0; length < end; length += 7) {
      expect(() => decodeCodebook(bytes.slice(0, length), "codes.npz"), `${length} bytes`).toThrow(
        /codes\.npz/,
      )
    }
    fc.assert(
      fc.property(fc.nat(bytes.length - 1), fc.integer({ min: 1, max: 255 }), (at, change) => {
        const damaged = bytes.slice()
        damaged[at]! ^= change
        try {
          const { space, books } = decodeCodebook(damaged, "codes.npz")
          expect(space.origin.length).toBe(space.dim)
          expect(books.centres.length).toBe(books.subspaces * books.width * 16)
        } catch (error) {
          expect(["Corrupt", "Unsupported"]).toContain((error as { tag?: string }).tag)
        }
      }),
      { numRuns: 500 },
    )
  })

  test("of another version is Unsupported, without a part Corrupt", async () => {
    const { decodeNpz, encodeNpz } = await import("../../../../src/vectors/npz.js")
    const arrays = decodeNpz(encodeCodebook(codebook), "codes.npz")
    const parameters = Int32Array.from(arrays["parameters.npy"]!.data as Int32Array)
    parameters[0] = 2
    const newer = encodeNpz({ ...arrays, "parameters.npy": { shape: [parameters.length], data: parameters } })
    expect(() => decodeCodebook(newer, "codes.npz")).toThrow(expect.objectContaining({ tag: "Unsupported" }))
    for (const name of Object.keys(arrays)) {
      const { [name]: _, ...others } = arrays
      expect(() => decodeCodebook(encodeNpz(others), "codes.npz"), name).toThrow(
        expect.objectContaining({ tag: "Corrupt" }),
      )
    }
  })
})

describe("shardCells", () => {
  const { space, books } = trainCodebook("dot", makeSample(300, 4, 4, 8), 4)

  test("of few rows are one, in their order, without codes", () => {
    const few = shardCells(space, books, makeSample(CODED_ROWS_MIN - 1, 4, 4, 9))
    expect(few.coded).toBeUndefined()
    expect(Array.from(few.starts)).toEqual([0, CODED_ROWS_MIN - 1])
    expect(few.order.every((row, position) => row === position)).toBe(true)
    expect(shardCells(space, books, makeSample(CODED_ROWS_MIN, 4, 4, 9)).coded).toBeDefined()
  })

  test("of rows whose squares leave float32 have no codes either", () => {
    const rows = makeSample(CODED_ROWS_MIN, 4, 4, 10)
    rows[17] = 1e30
    expect(shardCells(space, books, rows).coded).toBeUndefined()
  })
})

describe("stillFits", () => {
  const rowsOf = (seed: number, stretch: (i: number) => number = () => 1) =>
    makeSample(2000, 12, 12, seed).map((x, at) => x * stretch(at % 12))

  test.each(METRICS)("%s: a codebook fits its own sample and others of the same rows", (metric) => {
    const book = trainCodebook(metric, rowsOf(1), 12)
    expect(stillFits(book, rowsOf(1))).toBe(true)
    expect(stillFits(book, rowsOf(1).slice(12))).toBe(true)
  })

  test.each(METRICS)("%s: it does not fit rows that spread in other directions", (metric) => {
    const book = trainCodebook(
      metric,
      rowsOf(1, (i) => (i < 3 ? 1 : 0.02)),
      12,
    )
    expect(
      stillFits(
        book,
        rowsOf(1, (i) => (i < 9 ? 0.02 : 1)),
      ),
    ).toBe(false)
  })

  test("it does not fit where rows have come to have much in common, or no longer have", () => {
    const [apart, together] = [rowsOf(1), rowsOf(1).map((x) => x + 10)]
    const [first, second] = [trainCodebook("cosine", apart, 12), trainCodebook("cosine", together, 12)]
    expect([first.space.comparison, second.space.comparison]).toEqual(["directions", "distances"])
    expect([stillFits(first, together), stillFits(second, apart)]).toEqual([false, false])
  })
})
