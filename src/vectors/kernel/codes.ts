/**
 * Rows of bytes, and queries of 16-bit integers, as `scanCodes` and `scoreCodes` of assembly/kernel.ts take
 * them.
 */

/** Rows of bytes lie mixed in groups of so many: 8 bytes of each in turn. */
export const CODED_TOGETHER = 8

/** Bytes per row of codes: those beyond `dim` are 0. */
export const codeLength = (dim: number): number => Math.ceil(dim / 8) * 8

/** Bytes that the codes of so many rows take. */
export const codesLength = (rows: number, dim: number): number =>
  Math.ceil(rows / CODED_TOGETHER) * CODED_TOGETHER * codeLength(dim)

/** Where the first byte of a row lies among the codes of all rows. */
export const codeStart = (row: number, dim: number): number =>
  (row - (row % CODED_TOGETHER)) * codeLength(dim) + (row % CODED_TOGETHER) * 8

/** How far behind that the byte of an element lies. */
export const codeOffset = (element: number): number => (element >> 3) * 8 * CODED_TOGETHER + (element & 7)

/**
 * Rounds a query to 16-bit integers (fewer where sums of their products with codes up to `codeMax` would
 * leave 32 bits), into `out` from its start. Returns what an integer of 1 stands for.
 */
export function roundToIntegers(query: Float32Array, codeMax: number, out: Int16Array): number {
  const most = Math.min(2 ** 15 - 1, Math.floor((2 ** 31 - 1) / (codeMax * codeLength(query.length))))
  let largest = 0
  for (let i = 0; i < query.length; i++) largest = Math.max(largest, Math.abs(query[i]!))
  const scale = largest === 0 ? 1 : largest / most
  for (let i = 0; i < query.length; i++) out[i] = Math.round(query[i]! / scale)
  return scale
}
