/**
 * Figures of the vectors' lengths, gathered while rows stream by. A change of model, or of how vectors are
 * normalised, shows in them without anything being searched.
 *
 * Rows are counted as they are partitioned, so a row that is dropped as a duplicate later is among them:
 * which ones are is not known before the end, and they are few.
 */
import type { NormFigures } from "../../manifest/manifest.js"
import { DrawnRows } from "./draw.js"

/** Lengths that the quantiles are taken from, at most: enough for the third digit of a median. */
export const NORM_SAMPLE = 20_000
/** The sample holds float32, in which a longer vector would be infinite, and JSON has no word for that. */
const LONGEST = (2 - 2 ** -23) * 2 ** 127

export interface Norms {
  /** Takes the next rows, with their keys. */
  add(vectors: Float32Array, keys: Float64Array): void
  /** Of the rows so far, at least one. */
  figures(): NormFigures
}

export function createNorms(): Norms {
  const sample = new DrawnRows(NORM_SAMPLE, 1)
  let zeroRows = 0
  return {
    add(vectors, keys) {
      const lengths = new Float32Array(keys.length)
      const dim = vectors.length / keys.length
      for (let row = 0; row < lengths.length; row++) {
        let squared = 0
        for (let i = row * dim; i < (row + 1) * dim; i++) squared += vectors[i]! * vectors[i]!
        if (squared === 0) zeroRows++
        lengths[row] = Math.min(Math.sqrt(squared), LONGEST)
      }
      sample.add(lengths, keys)
    },
    figures() {
      const sorted = sample.take(0, NORM_SAMPLE).sort()
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
