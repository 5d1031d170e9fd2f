/** The gates by name, what they may be told, and what they answer. */
import { invalidInput } from "../../errors.js"
import { RECALL_KS } from "../../recall/curves.js"

/** All gates, in the order in which they are reported. */
export const GATE_NAMES = [
  "rows",
  "dim",
  "metric",
  "model",
  "skipped-rows",
  "duplicates",
  "skew",
  "norms",
  "zero-norms",
  "centroid-drift",
  "overlap",
  "recall",
] as const
export type GateName = (typeof GATE_NAMES)[number]

/**
 * Limits that a built snapshot must keep before it becomes live; exactly at the limit is fine, and an absent
 * one is not checked. `dim`, `metric` and `model` have no limit: they are always compared with the live
 * snapshot.
 */
export interface GateOptions {
  /**
   * Number of rows: at least `min`, and this much smaller or larger than the live snapshot's at most, in
   * percent of that.
   */
  readonly rows?:
    | {
        readonly min?: number | undefined
        readonly maxDropPercent?: number | undefined
        readonly maxGrowPercent?: number | undefined
      }
    | undefined
  /** Rows that were bad and left out, in percent of the rows read. */
  readonly skippedRows?: { readonly maxPercent: number } | undefined
  /** Rows whose id was there already, in percent of the rows read. */
  readonly duplicates?: { readonly maxPercent: number } | undefined
  /** Rows of the largest shard over the average. */
  readonly skew?: { readonly max: number } | undefined
  /** Change of the vectors' median length, up or down, in percent of the live snapshot's. */
  readonly norms?: { readonly maxDriftPercent: number } | undefined
  /** Vectors of length zero, in percent of the rows that were not skipped. */
  readonly zeroNorms?: { readonly maxPercent: number } | undefined
  /**
   * Mean distance of the new centroids from the nearest live one. Under cosine the cosine distance, else the
   * Euclidean one over the mean length of the live centroids.
   */
  readonly centroidDrift?: { readonly max: number } | undefined
  /** Mean share, from 0 to 1, of the live snapshot's nearest records that the new one finds too. */
  readonly overlap?:
    | {
        readonly min: number
        /** Records to search for; default 100. */
        readonly queries?: number | undefined
        /** Hits of each search; default 10. */
        readonly k?: number | undefined
        /**
         * Shards of each search; default the snapshot's. `explicit` and `cel` search the record's own shard,
         * or "all".
         */
        readonly probes?: number | "all" | undefined
      }
    | undefined
  /** Recall that the build has measured, from 0 to 1. A snapshot whose recall was not measured is refused. */
  readonly recall?:
    | {
        readonly min: number
        /** Of the k nearest: 1, 10 (default) or 100. */
        readonly k?: number | undefined
        /** Shards searched; default the snapshot's. */
        readonly probes?: number | undefined
      }
    | undefined
}

const GATE_VERDICTS = ["passed", "refused", "allowed", "not applicable"] as const
/**
 * `allowed`: it would be refused, but is allowed by name. `not applicable`: there is nothing to compare; it
 * passes.
 */
export type GateVerdict = (typeof GATE_VERDICTS)[number]

export interface GateResult {
  readonly gate: GateName
  /** For people; null if nothing can be measured against it. */
  readonly limit: string | null
  readonly value: string | number | null
  readonly verdict: GateVerdict
  /** One sentence. */
  readonly reason: string
}

/** A result without the name of its gate. */
export type Judged = Omit<GateResult, "gate">

interface NumberRule {
  readonly expected: string
  holds(value: number): boolean
}
const from = (least: number): NumberRule => ({
  expected: `a number from ${least}`,
  holds: (value) => value >= least && value < Infinity,
})
const between = (least: number, most: number): NumberRule => ({
  expected: `a number from ${least} to ${most}`,
  holds: (value) => value >= least && value <= most,
})
const whole = (least: number): NumberRule => ({
  expected: `a whole number from ${least}`,
  holds: (value) => Number.isSafeInteger(value) && value >= least,
})
const PERCENT = between(0, 100)

interface Setting {
  readonly rule: NumberRule
  readonly required?: boolean
  /** A word that is fine besides numbers. */
  readonly word?: string
}

const SETTINGS: Readonly<Record<keyof GateOptions, Readonly<Record<string, Setting>>>> = {
  rows: { min: { rule: whole(0) }, maxDropPercent: { rule: PERCENT }, maxGrowPercent: { rule: from(0) } },
  skippedRows: { maxPercent: { rule: PERCENT, required: true } },
  duplicates: { maxPercent: { rule: PERCENT, required: true } },
  skew: { max: { rule: from(1), required: true } },
  norms: { maxDriftPercent: { rule: from(0), required: true } },
  zeroNorms: { maxPercent: { rule: PERCENT, required: true } },
  centroidDrift: { max: { rule: from(0), required: true } },
  overlap: {
    min: { rule: between(0, 1), required: true },
    queries: { rule: whole(1) },
    k: { rule: whole(1) },
    probes: { rule: whole(1), word: "all" },
  },
  recall: {
    min: { rule: between(0, 1), required: true },
    k: { rule: { expected: "1, 10 or 100", holds: (k) => RECALL_KS.some((measured) => measured === k) } },
    probes: { rule: whole(1) },
  },
}

/**
 * Throws `InvalidInput` for a limit that is none, and for names that are not known: a mistyped gate would
 * never refuse anything.
 */
export function checkGateOptions(gates: GateOptions = {}, allow: readonly string[] = []): void {
  for (const [gate, settings] of Object.entries(gates)) {
    const known = (SETTINGS as Readonly<Record<string, Readonly<Record<string, Setting>>>>)[gate]
    if (known === undefined) throw unknownName(`gates.${gate}`, Object.keys(SETTINGS))
    if (settings === undefined) continue
    const unknown = Object.keys(settings).find((name) => !Object.hasOwn(known, name))
    if (unknown !== undefined) throw unknownName(`gates.${gate}.${unknown}`, Object.keys(known))
    for (const [name, { rule, required, word }] of Object.entries(known)) {
      const value: unknown = (settings as Readonly<Record<string, unknown>>)[name]
      const fits =
        value === undefined
          ? required !== true
          : typeof value === "number"
            ? rule.holds(value)
            : word !== undefined && value === word
      if (fits) continue
      const option = `gates.${gate}.${name}`
      const expected = word === undefined ? rule.expected : `${rule.expected}, or "${word}"`
      throw invalidInput(`option ${option} is ${value}, expected ${expected}`, { option, value })
    }
  }
  const wrong = allow.find((name) => !(GATE_NAMES as readonly string[]).includes(name))
  if (wrong !== undefined) {
    throw invalidInput(`option allow has "${wrong}", expected names of gates: ${GATE_NAMES.join(", ")}`, {
      option: "allow",
      value: wrong,
    })
  }
}

const unknownName = (option: string, known: readonly string[]): Error =>
  invalidInput(`option ${option} is not known, expected one of ${known.join(", ")}`, { option })
