import fc from "fast-check"
import { expect, test, vi } from "vitest"

/** What a build makes of cells and codes, as this module graph has it: compiled, or plain. */
async function load(kernel: "simd" | "plain") {
  vi.resetModules()
  vi.stubEnv("VECSNAP_KERNEL", kernel)
  const { kernelInUse } = await import("../../../../src/vectors/kernel.js")
  expect(kernelInUse()).toBe(kernel)
  const { createCellKernel, createCellMemory } = await import("../../../../src/vectors/cells/kernel.js")
  // Asked for here, while the environment says which it is.
  expect(createCellKernel(createCellMemory(1)) !== undefined).toBe(kernel === "simd")
  return {
    ...(await import("../../../../src/vectors/cells/books.js")),
    ...(await import("../../../../src/vectors/cells/codebook.js")),
    ...(await import("../../../../src/vectors/cells/search.js")),
    ...(await import("../../../../src/vectors/cells/shard.js")),
    ...(await import("../../../../src/vectors/random.js")),
  }
}
const compiled = await load("simd")
const plain = await load("plain")

test("codes are the same with and without the compiled kernels, the first of equal centres", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 9 }),
      fc.constantFrom(1, 2, 4),
      fc.integer({ min: 0, max: 30 }),
      fc.infiniteStream(fc.oneof(fc.constantFrom(-1, 0, 0.5), fc.float({ noNaN: true, min: -2, max: 2 }))),
      (subspaces, width, rows, stream) => {
        const centres = Float32Array.from(stream.take(subspaces * width * compiled.CENTRES))
        const residuals = Float32Array.from(stream.take(rows * subspaces * width))
        const books = { width, subspaces, centres }
        expect(plain.codesOf(residuals, books)).toEqual(compiled.codesOf(residuals, books))
      },
    ),
  )
})

test.each(["cosine", "l2", "dot"] as const)(
  "%s: so are codebooks, and cells and codes of shards",
  (metric) => {
    const random = compiled.createRandom(3)
    const sample = Float32Array.from({ length: 600 * 10 }, random.gaussian)
    for (const width of [1, 2, 4] as const) {
      const codebook = compiled.trainCodebook(metric, sample, 10, { width })
      // How many estimates it takes is measured by the compiled kernels.
      expect({ ...plain.trainCodebook(metric, sample, 10, { width }), best: codebook.best }).toEqual(codebook)
      const { space, books } = codebook
      expect(plain.shardCells(space, books, sample, {}, 0)).toEqual(
        compiled.shardCells(space, books, sample, {}, 0),
      )
    }
  },
)

test("without compiled kernels the width is 2 unless it is given, and nothing is searched through cells", () => {
  const sample = new Float32Array(100).map((_, i) => Math.sin(i))
  const { books, space } = plain.trainCodebook("dot", sample, 10)
  expect(books.width).toBe(2)
  expect(plain.prepareCells(space, books, [])).toBeUndefined()
  expect(compiled.prepareCells(space, books, [])).toBeDefined()
})
