const SECONDS_OF: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400 }

/** What a text that {@link durationSeconds} refuses should have been. */
export const DURATION = "a duration such as 90s, 30m, 6h or 2d"

/**
 * A duration in seconds: a number with a unit, "90s", "30m", "1.5h", "2d". `undefined` for any other text,
 * also for one without a unit: a grace period of "6" that means seconds to us and hours to its author would
 * delete too early.
 */
export function durationSeconds(text: string): number | undefined {
  const [, digits, unit] = /^(\d{1,9}(?:\.\d{1,9})?)([smhd])$/.exec(text) ?? []
  if (digits === undefined || unit === undefined) return undefined
  return Number(digits) * SECONDS_OF[unit]!
}
