/** Whether parts of objects can be read. */
import { isVecsnapError } from "../../../errors.js"
import { enumerate, type Judgement } from "../diagnosis.js"
import type { Trial } from "../trial.js"
import type { StoreCheck } from "./check.js"
import { pseudoRandomBytes } from "./contents.js"
import { failed, ok } from "./judgements.js"

interface RangeSeen {
  readonly range: "first bytes" | "middle bytes" | "last bytes" | "a range past the end"
  /** "refused" is right past the end only. */
  readonly got: "as written" | "other bytes" | "refused" | "nothing"
}

const RANGED_BYTES = 64 * 1024

/** Reads the first, middle and last kilobyte of an object, and what reaches past its end. */
async function observeRanges({ store, key }: Trial, signal: AbortSignal): Promise<RangeSeen[]> {
  const at = key("ranges")
  const body = pseudoRandomBytes(1, RANGED_BYTES)
  await store.put(at, body, { signal })
  const read = async (range: RangeSeen["range"], start: number, end: number): Promise<RangeSeen> => {
    try {
      const object = await store.get(at, { range: { start, end }, signal })
      if (object === undefined) return { range, got: "nothing" }
      const equal = Buffer.compare(object.body, body.subarray(start, end)) === 0
      return { range, got: equal ? "as written" : "other bytes" }
    } catch (error) {
      if (isVecsnapError(error, "Corrupt")) return { range, got: "refused" }
      throw error
    }
  }
  return [
    await read("first bytes", 0, 1024),
    await read("middle bytes", 30_000, 31_024),
    await read("last bytes", RANGED_BYTES - 1024, RANGED_BYTES),
    await read("a range past the end", RANGED_BYTES, RANGED_BYTES + 1024),
  ]
}

export function judgeRanges(seen: readonly RangeSeen[]): Judgement {
  const faults = seen.filter(
    ({ range, got }) => got !== (range === "a range past the end" ? "refused" : "as written"),
  )
  if (faults.length === 0) return ok("first, middle and last bytes are as written; past the end is refused")
  return failed(
    `asked for ${enumerate(faults.map(({ range, got }) => `${range}, got ${got === "refused" ? "no such range" : got}`))}`,
    "lookups by id and the check of large uploads read ranges, and would fail or be wrong",
  )
}

export const ranges: StoreCheck = {
  name: "ranges",
  withoutIt: "builds and lookups by id read parts of objects",
  make: async (...at) => judgeRanges(await observeRanges(...at)),
}
