/** What the checks of conditional writes share: writers that race. */
import { isVecsnapError } from "../../../errors.js"

export const RACING_WRITERS = 8

/** Whether a conditional write was made; what is neither success nor `Conflict` is thrown. */
export type Outcome = "written" | "conflict"

export async function attempt(write: Promise<unknown>): Promise<Outcome> {
  try {
    await write
    return "written"
  } catch (error) {
    if (isVecsnapError(error, "Conflict")) return "conflict"
    throw error
  }
}

/** Waits for all, then throws the first failure: nothing of a race may still run when the next one begins. */
export async function settleAll<T>(calls: readonly Promise<T>[]): Promise<T[]> {
  await Promise.allSettled(calls)
  return Promise.all(calls)
}

export const RACES_NOT_EXCLUDED =
  "publishing works, but racing publishers are not excluded: one may silently undo the other; nor is collection protected from races"
