/** What becomes of bad rows: they end the build, or are left out, counted, and limited. */
import { invalidInput } from "../../errors.js"

/** Bad rows that are kept as sentences for the report. */
const REASONS_KEPT = 10

export interface BadRows {
  /** Called for every bad row; throws if the build must end. */
  report(error: Error): void
  readonly count: number
  readonly reasons: readonly string[]
}

export function createBadRows(mode: "fail" | "skip", limit: number): BadRows {
  const reasons: string[] = []
  let count = 0
  return {
    report(error) {
      if (mode === "fail") throw error
      count++
      if (reasons.length < REASONS_KEPT) reasons.push(error.message)
      if (count > limit) {
        throw invalidInput(
          `${count} bad rows, more than the ${limit} allowed; the last: ${error.message}`,
          { limit },
          error,
        )
      }
    },
    get count() {
      return count
    },
    reasons,
  }
}
