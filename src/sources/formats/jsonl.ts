/**
 * JSON Lines: one object per line; blank lines are skipped but counted. An array of objects is read as well,
 * also as the only member, `rows`, of an object, and objects that are spread over lines; a column may be a
 * path into an object, `data[0].embedding`.
 */
import { isUtf8 } from "node:buffer"
import { messageOf } from "../../errors.js"
import { parseJson } from "../../json.js"
import type { Json, RowUnit } from "../../records.js"
import { shortened } from "../../wording.js"
import { decompressed, peek, splitLines } from "../bytes.js"
import type { FileReader, RawColumns } from "../columns.js"
import type { BytesFormat } from "../format.js"
import { shapeOfJson, splitValues, valueAtPath } from "../json-values.js"
import { gatherRows, type ParsedLine } from "../text-rows.js"

export const jsonl: BytesFormat<"jsonl"> = {
  name: "jsonl",
  extensions: ["jsonl", "ndjson", "json"],
  magic: ["{", "["],
  reads: "bytes",
  open: ({ name, openBytes }) => jsonlReader(name, openBytes),
}

/** `openBytes` starts to read the file, which may be compressed; `file` is for messages. */
function jsonlReader(file: string, openBytes: () => AsyncIterable<Uint8Array>): FileReader {
  // An array may be all on one line: its rows are told by their place.
  let unit: RowUnit = "line"
  return {
    file,
    get unit() {
      return unit
    },
    text: false,
    read: ({ onBadRow }) =>
      gatherRows(
        parseFile(file, openBytes, (found) => {
          unit = found
        }),
        columnsOf,
        onBadRow,
      ),
  }
}

const HEAD_BYTES = 4096

async function* parseFile(
  file: string,
  openBytes: () => AsyncIterable<Uint8Array>,
  onUnit: (unit: RowUnit) => void,
): AsyncGenerator<ParsedLine<JsonObject>[]> {
  const { head, whole } = await peek(decompressed(openBytes(), file), HEAD_BYTES)
  const shape = shapeOfJson(head)
  if (shape === "lines") {
    yield* parseLines(file, whole)
    return
  }
  const isArray = shape !== "values"
  if (isArray) onUnit("row")
  let rowsBefore = 0
  for await (const values of splitValues(whole, shape, file)) {
    const first = rowsBefore + 1
    yield values.flatMap(({ bytes, line }, i) => parseLine(bytes, isArray ? first + i : line))
    rowsBefore += values.length
  }
}

async function* parseLines(
  file: string,
  bytes: AsyncIterable<Uint8Array>,
): AsyncGenerator<ParsedLine<JsonObject>[]> {
  let linesBefore = 0
  for await (const lines of splitLines(bytes, file)) {
    const first = linesBefore + 1
    yield lines.flatMap((text, i) => parseLine(text, first + i))
    linesBefore += lines.length
  }
}

type JsonObject = { readonly [name: string]: Json }

/** Nothing for a blank line. */
function parseLine(bytes: Buffer, line: number): ParsedLine<JsonObject>[] {
  if (!isUtf8(bytes)) return [{ line, problem: "is not UTF-8" }]
  const text = bytes.toString("utf8")
  if (text.trim() === "") return []
  let value: Json
  try {
    value = parseJson(text)
  } catch (error) {
    return [{ line, problem: `is not JSON: ${shortened(messageOf(error), 200)}` }]
  }
  if (typeof value === "object" && value !== null && !Array.isArray(value))
    return [{ line, row: value as JsonObject }]
  const found = Array.isArray(value) ? "a list" : text.trim().slice(0, 60)
  return [{ line, problem: `is ${found}, expected an object` }]
}

function columnsOf(objects: readonly JsonObject[], numbers: readonly number[]): RawColumns {
  return {
    rows: objects.length,
    rowNumber: (row) => numbers[row]!,
    namesOf: (row) => Object.keys(objects[row]!),
    // A name like "constructor" must not find what every object inherits.
    column: (name) => (row) => valueAtPath(objects[row]!, name),
  }
}
