/** Arrow IPC, as a stream or as a file, batch by batch, through `apache-arrow`, which is optional. */
import { type FileHandle, open } from "node:fs/promises"
import type { DataType, RecordBatch, Vector } from "apache-arrow"
import { corrupt, isVecsnapError, messageOf, unsupported } from "../../errors.js"
import { withPackage } from "../../packages.js"
import type { FileReader, RawColumns } from "../columns.js"
import type { FileFormat } from "../format.js"
import { plainDate, plainDecimal, plainTimestamp } from "../plain.js"

type Arrow = typeof import("apache-arrow")

export const arrow: FileFormat<"arrow"> = {
  name: "arrow",
  extensions: ["arrow", "arrows", "feather", "ipc"],
  // An Arrow stream starts with a continuation marker.
  magic: ["ARROW1", "\xff\xff\xff\xff"],
  reads: "file",
  load: loadArrow,
  open: async ({ name, path }) => arrowReader(await loadArrow(), name, path),
}

/** Throws `Unsupported`, naming the package to install, if Arrow is absent. */
function loadArrow(): Promise<Arrow> {
  return withPackage("apache-arrow", "Arrow input", () => import("apache-arrow"))
}

/** Reads a local file; `file` is for messages. */
function arrowReader(arrow: Arrow, file: string, path: string): FileReader {
  return {
    file,
    unit: "row",
    text: false,
    async *read() {
      const handle = await open(path)
      try {
        await assertWhole(handle, file)
        // With a file handle, the file form is read by its footer, and neither form is loaded as a whole.
        const reader = await (await arrow.RecordBatchReader.from(handle)).open()
        if (reader.schema === undefined) throw corrupt(`${file} is not an Arrow file or stream`, { file })
        let rowsBefore = 0
        for await (const batch of reader) {
          yield columnsOf(arrow, batch, rowsBefore)
          rowsBefore += batch.numRows
        }
      } catch (cause) {
        throw describeFailure(cause, file)
      } finally {
        await handle.close()
      }
    },
  }
}

const FILE_MAGIC = "ARROW1"

/** The reader takes a file that is cut off for an empty stream, so the end is looked at first. */
async function assertWhole(handle: FileHandle, file: string): Promise<void> {
  const { size } = await handle.stat()
  const { length } = FILE_MAGIC
  const read = async (position: number) =>
    (await handle.read(Buffer.alloc(length), 0, length, position)).buffer.toString("latin1")
  if ((await read(0)) === FILE_MAGIC && (await read(Math.max(0, size - length))) !== FILE_MAGIC)
    throw corrupt(`${file} is cut off: an Arrow file ends with ${FILE_MAGIC}`, { file })
}

function describeFailure(cause: unknown, file: string): unknown {
  if (isVecsnapError(cause)) return cause
  const reason = messageOf(cause)
  // The library's own words: "Record batch compression not implemented", "Unrecognized type".
  const raise = /not implemented|unrecogni[sz]ed/i.test(reason) ? unsupported : corrupt
  return raise(`${file} cannot be read as Arrow: ${reason}`, { file }, cause)
}

function columnsOf(arrow: Arrow, batch: RecordBatch, rowsBefore: number): RawColumns {
  const { fields } = batch.schema
  const names = fields.map(({ name }) => name)
  return {
    rows: batch.numRows,
    rowNumber: (row) => rowsBefore + row + 1,
    names,
    vectorNames: names.filter((_, i) => isFloatList(arrow, fields[i]!.type)),
    namesOf: () => names,
    column(name) {
      const vector = batch.getChild(name)
      if (vector === null) return () => undefined
      return floatViews(arrow, vector) ?? ((row) => plain(arrow, vector.get(row), vector.type))
    },
  }
}

function isFloatList({ DataType }: Arrow, type: DataType): boolean {
  if (!DataType.isList(type) && !DataType.isFixedSizeList(type)) return false
  return DataType.isFloat(type.children[0]!.type)
}

type FloatView = (row: number) => Float32Array | Float64Array | null

/** Lists as views, without a copy; `undefined` where elements may be null, or are no such list. */
function floatViews(arrow: Arrow, vector: Vector): FloatView | undefined {
  const { type } = vector
  const [data] = vector.data
  const child = data?.children[0]
  if (!isFloatList(arrow, type) || data === undefined || child === undefined) return undefined
  const values: unknown = child.values
  const hasValues = values instanceof Float32Array || values instanceof Float64Array
  if (!hasValues || child.nullCount > 0 || data.offset > 0 || child.offset > 0) return undefined
  if (arrow.DataType.isFixedSizeList(type)) {
    const { listSize } = type
    return (row) => (data.getValid(row) ? values.subarray(row * listSize, (row + 1) * listSize) : null)
  }
  const offsets = data.valueOffsets
  return (row) => (data.getValid(row) ? values.subarray(offsets[row], offsets[row + 1]) : null)
}

/** A value as JSON would have it. Dates and times become ISO 8601 text; binary data stays as it is at the top. */
function plain(arrow: Arrow, value: unknown, type: DataType): unknown {
  const { DataType } = arrow
  if (value === null || value === undefined) return null
  if (DataType.isDictionary(type)) return plain(arrow, value, type.dictionary)
  if (DataType.isList(type) || DataType.isFixedSizeList(type)) {
    const item = type.children[0]!.type
    return Array.from(value as Iterable<unknown>, (element) => nested(arrow, element, item))
  }
  if (DataType.isStruct(type)) {
    const members = value as { readonly [name: string]: unknown }
    return Object.fromEntries(
      type.children.map((field) => [field.name, nested(arrow, members[field.name], field.type)]),
    )
  }
  if (DataType.isMap(type)) {
    const [, member] = type.children[0]!.type.children
    const entries = [...(value as Iterable<[unknown, unknown]>)]
    return Object.fromEntries(entries.map(([key, item]) => [String(key), nested(arrow, item, member!.type)]))
  }
  if (DataType.isDecimal(type)) return plainDecimal(int128(value as Uint32Array), type.scale)
  // Dates and times come as milliseconds, with a fraction where there is one.
  if (DataType.isDate(type)) {
    const ms = value as number
    return type.unit === arrow.DateUnit.DAY ? plainDate(ms / 86_400_000) : plainTimestamp(microsOf(ms), "")
  }
  if (DataType.isTimestamp(type)) return plainTimestamp(microsOf(value as number), type.timezone ? "Z" : "")
  if (value instanceof Uint8Array || !ArrayBuffer.isView(value)) return value
  return Array.from(value as unknown as ArrayLike<unknown>)
}

const microsOf = (ms: number): bigint => BigInt(Math.round(ms * 1000))

function int128(words: Uint32Array): bigint {
  const bits = words.reduceRight((sum, word) => (sum << 32n) | BigInt(word), 0n)
  return BigInt.asIntN(words.length * 32, bits)
}

/** A value within another: binary data becomes base64, since JSON has no other form. */
function nested(arrow: Arrow, value: unknown, type: DataType): unknown {
  const inner = plain(arrow, value, type)
  return inner instanceof Uint8Array ? Buffer.from(inner).toString("base64") : inner
}
