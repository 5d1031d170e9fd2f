/**
 * Vectors that are written as text, as CSV files and text columns hold them: JSON and pgvector `[0.1,0.2]`,
 * arrays of Postgres `{0.1,0.2}`, what NumPy prints `[0.1 0.2]` and `[np.float32(0.1), np.float32(0.2)]`, and
 * tuples `(0.1, 0.2)`.
 */
import { parseJson } from "../json.js"

const BRACKETS: Readonly<Record<string, string>> = { "[": "]", "{": "}", "(": ")" }
const NUMBER = /^[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?$/i
const NUMPY_SCALAR = /^(?:np|numpy)\.\w+\((.*)\)$/s
const NOT_FINITE = /^[+-]?(?:nan|inf|infinity)$/i
const SHOWN_LENGTH = 60

/**
 * The elements of a vector; else what is wrong with the text, in words that follow its column: at which
 * position what stands.
 */
export function parseTextVector(text: string): ArrayLike<number> | string {
  const trimmed = text.trim()
  const close = BRACKETS[trimmed[0] ?? ""]
  if (close === undefined) {
    const isNumbers = /^[-+.\deE]+(?:[\s,]+[-+.\deE]+)+$/.test(trimmed)
    return `is ${shown(text)}, expected a list of numbers${isNumbers ? ", in brackets: [0.1, 0.2]" : ""}`
  }
  if (close === "]") {
    const list = parseList(trimmed)
    if (list !== undefined) return list
  }
  const isClosed = trimmed.length > 1 && trimmed.endsWith(close)
  const inner = trimmed.slice(1, isClosed ? -1 : undefined).trim()
  if (inner === "" && isClosed) return []
  const items = (inner.includes(",") ? inner.split(",") : inner.split(/\s+/)).map((item) => item.trim())
  const numbers: number[] = []
  for (const [position, item] of items.entries()) {
    // The last item of a text that is cut off may itself be cut off.
    if (!isClosed && position === items.length - 1)
      return `ends at position ${position} without ${JSON.stringify(close)}; was it cut off?`
    const number = numberOf(item)
    if (typeof number === "string") return `has ${number.replace(" %", () => ` at position ${position}`)}`
    numbers.push(number)
  }
  return numbers
}

/** A list that is written as JSON, its elements not yet checked. */
function parseList(text: string): ArrayLike<number> | undefined {
  try {
    return parseJson(text) as unknown as ArrayLike<number>
  } catch {
    return undefined
  }
}

/** An element; else what it is, with % for its position. */
function numberOf(item: string): number | string {
  const digits = NUMPY_SCALAR.exec(item)?.[1]?.trim() ?? item
  if (NUMBER.test(digits)) return Number(digits)
  if (item === "...") return "... %, where NumPy left values out when it printed the array"
  if (NOT_FINITE.test(digits)) return `${digits} %, expected a finite number`
  if (item === "" || /^null$/i.test(item)) return `${item === "" ? "nothing" : "null"} %, expected a number`
  return `${shown(item)} %, expected a number`
}

const shown = (text: string): string =>
  text.length > SHOWN_LENGTH ? `${JSON.stringify(text.slice(0, SHOWN_LENGTH))}...` : JSON.stringify(text)
