/** JSON that is not one object a line: an array of objects, or objects that are spread over lines. */
import { corrupt, invalidInput } from "../errors.js"
import { MAX_LINE_BYTES } from "./bytes.js"

/** How the values of a JSON file follow one another. */
export type JsonShape = "lines" | "array" | "rows" | "values"

const [TAB, NEWLINE, RETURN, SPACE] = [0x09, 0x0a, 0x0d, 0x20]
const [QUOTE, COMMA, OPEN_BRACKET, BACKSLASH, CLOSE_BRACKET, OPEN_BRACE, CLOSE_BRACE] = [
  0x22, 0x2c, 0x5b, 0x5c, 0x5d, 0x7b, 0x7d,
]

/** A byte order mark. */
const MARK = [0xef, 0xbb, 0xbf]

/** How an object begins that has an array of rows alone, as Milvus imports them. */
const ROWS = /^\s*\{\s*"rows"\s*:\s*\[\s*[{\]]/

/**
 * The shape of a file that starts with `head`: "[" begins an array, `{"rows": [` an object that is a wrapper
 * of one, "{" on a line of its own an object on several lines.
 */
export function shapeOfJson(head: Buffer): JsonShape {
  const text = head.toString("utf8").replace(/^\ufeff/, "")
  if (/^\s*\[/.test(text)) return "array"
  if (ROWS.test(text)) return "rows"
  return /^\s*\{[ \t\r]*\n/.test(text) ? "values" : "lines"
}

export interface JsonText {
  readonly bytes: Buffer
  /** Line on which the value begins, from 1. */
  readonly line: number
}

/**
 * The elements of one array, or values that follow one another, as text that is still to be parsed, several
 * at a time. Throws `InvalidInput` for a value of more bytes than a line may have or for what follows the
 * array, `Corrupt` if the end is missing.
 */
export async function* splitValues(
  bytes: AsyncIterable<Uint8Array>,
  shape: "array" | "rows" | "values",
  name: string,
): AsyncGenerator<JsonText[]> {
  let line = 1
  let depth = 0
  let inString = false
  let isEscaped = false
  let isOpen = shape === "values"
  let isClosed = false
  let isWrapped = shape === "rows"
  let pending: Buffer[] = []
  let pendingBytes = 0
  let startLine = 0
  let bytesBefore = 0

  for await (const { buffer, byteOffset, byteLength } of bytes) {
    const chunk = Buffer.from(buffer, byteOffset, byteLength)
    const values: JsonText[] = []
    let start = pending.length > 0 ? 0 : -1
    const end = (at: number): void => {
      if (start === -1) return
      values.push({ bytes: Buffer.concat([...pending, chunk.subarray(start, at)]), line: startLine })
      pending = []
      pendingBytes = 0
      start = -1
    }
    for (let i = 0; i < chunk.length; i++) {
      const byte = chunk[i]!
      if (byte === NEWLINE) line++
      if (!isOpen && shape === "rows") {
        // What stands before is known: the shape was told by it.
        isOpen = byte === OPEN_BRACKET
        continue
      }
      if (inString) {
        if (isEscaped) isEscaped = false
        else if (byte === BACKSLASH) isEscaped = true
        else if (byte === QUOTE) inString = false
        continue
      }
      const isSpace = byte === SPACE || byte === NEWLINE || byte === RETURN || byte === TAB
      const isMark = bytesBefore + i < MARK.length && byte === MARK[bytesBefore + i]
      if (isSpace || isMark) continue
      if (isClosed && isWrapped && byte === CLOSE_BRACE) {
        isWrapped = false
        continue
      }
      if (isClosed) {
        throw invalidInput(`${name}, line ${line}: something follows the array, expected its end`, {
          file: name,
          row: line,
        })
      }
      if (!isOpen && byte === OPEN_BRACKET) {
        isOpen = true
        continue
      }
      if (depth === 0 && shape !== "values" && (byte === COMMA || byte === CLOSE_BRACKET)) {
        end(i)
        isClosed = byte === CLOSE_BRACKET
        continue
      }
      if (start === -1) {
        start = i
        startLine = line
      }
      if (byte === QUOTE) inString = true
      else if (byte === OPEN_BRACE || byte === OPEN_BRACKET) depth++
      else if (byte === CLOSE_BRACE || byte === CLOSE_BRACKET) {
        depth--
        if (depth <= 0 && shape === "values") {
          depth = 0
          end(i + 1)
        }
      }
    }
    if (start !== -1) {
      pending.push(chunk.subarray(start))
      pendingBytes += chunk.length - start
      if (pendingBytes > MAX_LINE_BYTES) {
        throw invalidInput(
          `${name}, line ${startLine}: a value has more than ${MAX_LINE_BYTES} bytes; expected an array of objects, or one object a line`,
          { file: name, row: startLine },
        )
      }
    }
    bytesBefore += chunk.length
    if (values.length > 0) yield values
  }
  if (pending.length > 0 || (shape !== "values" && !isClosed) || isWrapped)
    throw corrupt(`${name} is cut off: its last value has no end`, { name })
}

/**
 * The value at a path like `data[0].embedding` within an object; `undefined` if there is none. A member that
 * is called so goes first.
 */
export function valueAtPath(object: object, path: string): unknown {
  if (Object.hasOwn(object, path)) return (object as Record<string, unknown>)[path]
  if (!isPath(path)) return undefined
  let value: unknown = object
  for (const step of stepsOf(path)) {
    if (typeof value !== "object" || value === null || !Object.hasOwn(value, step)) return undefined
    value = (value as Record<string, unknown>)[step]
  }
  return value
}

/** Whether a name of a column leads into a value. */
export const isPath = (name: string): boolean => /[.[]/.test(name)

/** The column that a path leads into. */
export const rootOfPath = (path: string): string => stepsOf(path)[0] ?? path

const stepsOf = (path: string): readonly string[] =>
  path
    .replace(/\[(\d+)\]/g, ".$1")
    .split(".")
    .filter((step) => step !== "")
