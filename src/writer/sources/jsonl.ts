/** JSON Lines: one object per line; blank lines are skipped but counted. */
import { isUtf8 } from "node:buffer"
import { parseJson } from "../../json.js"
import type { Json } from "../../records.js"
import { decompressed, splitLines } from "./bytes.js"
import type { FileReader, RawColumns } from "./columns.js"
import { BadValue, badRow } from "./rows.js"

/** `openBytes` starts to read the file, which may be compressed; `file` is for messages. */
export function jsonlReader(file: string, openBytes: () => AsyncIterable<Uint8Array>): FileReader {
  return {
    file,
    unit: "line",
    text: false,
    async *read({ onBadRow }) {
      const onBadLine =
        onBadRow ??
        ((line: number, problem: string) => {
          throw badRow(file, "line", line, new BadValue(undefined, problem))
        })
      let line = 0
      for await (const lines of splitLines(decompressed(openBytes(), file), file)) {
        const objects: JsonObject[] = []
        const numbers: number[] = []
        for (const text of lines) {
          line++
          const object = parseLine(text)
          if (typeof object === "string") onBadLine(line, object)
          else if (object !== undefined) {
            objects.push(object)
            numbers.push(line)
          }
        }
        if (objects.length > 0) yield columnsOf(objects, numbers)
      }
    },
  }
}

type JsonObject = { readonly [name: string]: Json }

/** The object; `undefined` for a blank line; what is wrong, in words. */
function parseLine(line: Buffer): JsonObject | undefined | string {
  if (!isUtf8(line)) return "is not UTF-8"
  const text = line.toString("utf8")
  if (text.trim() === "") return undefined
  let value: Json
  try {
    value = parseJson(text)
  } catch (error) {
    return `is not JSON: ${(error as Error).message}`
  }
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as JsonObject
  return `is ${Array.isArray(value) ? "a list" : JSON.stringify(text.slice(0, 60))}, expected an object`
}

function columnsOf(objects: readonly JsonObject[], numbers: readonly number[]): RawColumns {
  return {
    rows: objects.length,
    rowNumber: (row) => numbers[row]!,
    namesOf: (row) => Object.keys(objects[row]!),
    // A name like "constructor" must not find what every object inherits.
    column: (name) => (row) => (Object.hasOwn(objects[row]!, name) ? objects[row]![name] : undefined),
  }
}
