/** Values that JSON has no form for, as text; the same for all readers that have types. */

// A double holds any decimal of so many digits exactly enough to print it again.
const DOUBLE_DIGITS = 15

/** A decimal `unscaled / 10^scale`: a number where that shows the same digits, else its text. */
export function plainDecimal(unscaled: bigint, scale: number): number | bigint | string {
  if (scale === 0) return unscaled
  const sign = unscaled < 0n ? "-" : ""
  const digits = (unscaled < 0n ? -unscaled : unscaled).toString()
  const padded = digits.padStart(scale + 1, "0")
  const text = `${sign}${padded.slice(0, -scale)}.${padded.slice(-scale)}`
  return digits.length <= DOUBLE_DIGITS ? Number(text) : text
}

// JavaScript's dates end this many milliseconds before and after 1970.
const MAX_DATE_MS = 8.64e15

/**
 * A time in microseconds since 1970 as ISO 8601, without needless digits; `zone` is "Z" or "". `undefined` for years
 * beyond 270,000.
 */
export function plainTimestamp(micros: bigint, zone: "Z" | ""): string | undefined {
  const fraction = ((micros % 1_000_000n) + 1_000_000n) % 1_000_000n
  const ms = Number((micros - fraction) / 1000n)
  if (Math.abs(ms) > MAX_DATE_MS) return undefined
  const seconds = new Date(ms).toISOString().slice(0, -".000Z".length)
  const digits = fraction === 0n ? "" : `.${fraction.toString().padStart(6, "0").replace(/0+$/, "")}`
  return `${seconds}${digits}${zone}`
}

/** A day, counted from 1970, as ISO 8601; `undefined` for years beyond 270,000. */
export function plainDate(days: number): string | undefined {
  const ms = days * 86_400_000
  return Math.abs(ms) > MAX_DATE_MS
    ? undefined
    : new Date(ms).toISOString().slice(0, -"T00:00:00.000Z".length)
}
