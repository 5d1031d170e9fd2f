/**
 * Figures of the vectors' lengths, gathered while rows stream by. A change of model, or of how vectors are
 * normalised, shows in them without anything being searched.
 *
 * Rows are counted as they are partitioned, so a row that is dropped as a duplicate later is among them:
 * which ones are is not known before the end, and they are few.
 */
import type { NormFigures } from "../../manifest/manifest.js"
import { Reservoir } from "../../vectors/random.js"

/** Lengths that the quantiles are taken from, at most: enough for the third digit of a median. */
export const NORM_SAMPLE = 20_000
const SEED = 1
/** The sample holds float32, in which a longer vector would be infinite, and JSON has no word for that. */
const LONGEST = (2 - 2 ** -23) * 2 ** 127

export interface Norms {
  /** Takes the rows of row-major `vectors`. */
  add(vectors: Float32Array, dim: number): void
  /** Of the rows so far, at least one. */
  figures(): NormFigures
}

export function createNorms(): Norms {
  const sample = new Reservoir(NORM_SAMPLE, 1, SEED)
  let zeroRows = 0
  return {
    add(vectors, dim) {
      const lengths = new Float32Array(vectors.length / dim)
      for (let row = 0; row < lengths.length; row++) {
        let squared = 0
        for (let i = row * dim; i < (row + 1) * dim; i++) squared += vectors[i]! * vectors[i]!
        if (squared === 0) zeroRows++
        lengths[row] = Math.min(Math.sqrt(squared), LONGEST)
      }
      sample.add(lengths)
    },
    figures() {
      const sorted = sample.vectors.slice().sort()
      const quantile = (share: number): number => sorted[Math.round(share * (sorted.length - 1))]!
      return {
        p05: quantile(0.05),
        median: quantile(0.5),
        p95: quantile(0.95),
        zeroRows,
        rows: sorted.length,
      }
    },
  }
}
