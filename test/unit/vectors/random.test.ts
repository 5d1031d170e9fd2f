import { describe, expect, test } from "vitest"
import { createRandom } from "../../../src/vectors/random.js"

describe("createRandom", () => {
  test("repeats for a seed and differs between seeds", () => {
    const draw = (seed: number) => {
      const random = createRandom(seed)
      return Array.from({ length: 8 }, random.uint32)
    }
    expect(draw(1)).toEqual(draw(1))
    const seeds = [0, 1, 2, -1, 2 ** 32, 2 ** 32 + 1, Number.MAX_SAFE_INTEGER]
    expect(new Set(seeds.map((seed) => draw(seed).join())).size).toBe(seeds.length)
    expect(() => createRandom(0.5)).toThrow("the seed must be an integer, got 0.5")
  })

  test("equals the reference generator", () => {
    // PractRand's sfc32 with a = 1, b = 0, c = 0, counter = 1, after 15 rounds: computed by an independent program.
    const random = createRandom(1)
    expect(Array.from({ length: 4 }, random.uint32)).toEqual([3387734806, 1080862987, 3546521498, 2861869171])
  })

  test("floats lie in [0, 1) with the mean and variance of the uniform distribution", () => {
    const random = createRandom(3)
    const values = Array.from({ length: 20_000 }, random.float)
    expect(Math.min(...values)).toBeGreaterThanOrEqual(0)
    expect(Math.max(...values)).toBeLessThan(1)
    expect(mean(values)).toBeCloseTo(0.5, 2)
    expect(variance(values)).toBeCloseTo(1 / 12, 2)
  })

  test("below reaches all numbers about equally often", () => {
    const random = createRandom(4)
    const counts = new Array<number>(7).fill(0)
    for (let i = 0; i < 70_000; i++) counts[random.below(7)]!++
    // 10,000 expected of each, with a standard deviation of 93.
    for (const count of counts) expect(Math.abs(count - 10_000)).toBeLessThan(400)
  })

  test("gaussians have mean 0, variance 1, and a normal share within one deviation", () => {
    const random = createRandom(5)
    const values = Array.from({ length: 20_000 }, random.gaussian)
    expect(mean(values)).toBeCloseTo(0, 1)
    expect(variance(values)).toBeCloseTo(1, 1)
    expect(values.filter((value) => Math.abs(value) < 1).length / values.length).toBeCloseTo(0.683, 1)
  })
})

const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length
const variance = (values: number[]) => {
  const center = mean(values)
  return mean(values.map((value) => (value - center) ** 2))
}
