/** Recall of live queries that were asked again, of the latest ones. */
import type { ObservedRecall } from "../types.js"

/** Queries of which it is remembered. */
const SIZE = 1000
/** The 97.5th percentile of the normal distribution: of a hundred intervals 95 hold the mean. */
const Z = 1.96

export interface RecallNotes {
  /** @param target the recall that was asked for; undefined if none was */
  note(recall: number, target: number | undefined): void
  /** Undefined before the first one. */
  summary(): ObservedRecall | undefined
}

export function createRecallNotes(size = SIZE): RecallNotes {
  const latest: { readonly recall: number; readonly target: number | undefined }[] = []
  return {
    note(recall, target) {
      latest.push({ recall, target })
      if (latest.length > size) latest.shift()
    },
    summary() {
      const queries = latest.length
      if (queries === 0) return undefined
      const recall = latest.reduce((sum, one) => sum + one.recall, 0) / queries
      const targets = latest.flatMap(({ target }) => (target === undefined ? [] : [target]))
      const sum = targets.reduce((total, target) => total + target, 0)
      const target = targets.length === queries ? sum / queries : undefined
      return { queries, recall, ...meanInterval(recall, queries), target }
    },
  }
}

/**
 * An interval of 95 % for the mean of values from 0 to 1: Wilson's score interval (Wilson, Probable
 * Inference, the Law of Succession, and Statistical Inference, 1927), as if each value were 0 or 1. No values
 * between have a larger variance for the same mean (Bhatia and Davis, A Better Bound on the Variance, 2000),
 * so that it is rather too wide.
 */
export function meanInterval(mean: number, count: number): { readonly low: number; readonly high: number } {
  const z2 = Z ** 2 / count
  const centre = (mean + z2 / 2) / (1 + z2)
  const half = (Z / (1 + z2)) * Math.sqrt((mean * (1 - mean)) / count + z2 / (4 * count))
  // Rounding must not put the mean outside.
  return { low: Math.max(0, Math.min(mean, centre - half)), high: Math.min(1, Math.max(mean, centre + half)) }
}
