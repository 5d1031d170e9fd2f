/** What all steps of one collection share. */
import type { ObjectStore } from "../../storage/store.js"
import type { ResolvedCollectOptions } from "./report.js"
import type { Tally } from "./tally.js"

/** Others that keep changing the pointer are given up to after so many tries. */
export const ATTEMPTS = 5
/**
 * Objects that are listed between two tellings of progress, and keys per delete: what S3 takes in one
 * request.
 */
export const BATCH = 1000

export interface Job {
  readonly store: ObjectStore
  readonly options: ResolvedCollectOptions
  /** What was removed, over all passes. */
  readonly tally: Tally
}
