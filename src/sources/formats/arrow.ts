/**
 * Arrow IPC, as a stream or as a file (which Feather is), batch by batch. `@uwdata/flechette` decodes
 * messages: unlike `apache-arrow` 18 it knows the types of newer writers (views, large lists, run-end
 * encoding) and takes codecs.
 */
import { open } from "node:fs/promises"
import {
  CompressionType,
  Endianness,
  getCompressionCodec,
  setCompressionCodec,
  type Table,
  tableFromIPC,
} from "@uwdata/flechette"
import { corrupt, isVecsnapError, messageOf, unsupported } from "../../errors.js"
import { type BatchMessages, readMessages } from "../arrow/messages.js"
import { columnValues, isFloatList, type ReadValue } from "../arrow/values.js"
import type { FileReader, RawColumns } from "../columns.js"
import type { FileFormat } from "../format.js"
import { unlz4 } from "../lz4.js"
import { BadValue } from "../rows.js"
import { unzstd } from "../zstd.js"

export const arrow: FileFormat<"arrow"> = {
  name: "arrow",
  extensions: ["arrow", "arrows", "feather", "ipc"],
  // A stream starts with a continuation marker; Feather of version 1 is told apart to be refused.
  magic: ["ARROW1", "\xff\xff\xff\xff", "FEA1"],
  reads: "file",
  open: async ({ name, path }) => arrowReader(name, path),
}

/** Reads a local file; `file` is for messages. */
function arrowReader(file: string, path: string): FileReader {
  return {
    file,
    unit: "row",
    text: false,
    async *read() {
      registerCodecs()
      const handle = await open(path)
      try {
        let rowsBefore = 0
        for await (const messages of readMessages(handle, file)) {
          const batch = decodeBatch(messages, file)
          yield columnsOf(batch, rowsBefore, file)
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

/** For the whole process, as the library has it; codecs that the application has set stay. */
function registerCodecs(): void {
  const encode = (): never => {
    throw new Error("vecsnap does not write Arrow")
  }
  if (getCompressionCodec(CompressionType.LZ4_FRAME) === null)
    setCompressionCodec(CompressionType.LZ4_FRAME, { encode, decode: unlz4 })
  if (getCompressionCodec(CompressionType.ZSTD) === null)
    setCompressionCodec(CompressionType.ZSTD, {
      encode,
      decode: (bytes, size) => aligned(unzstd(bytes, size)),
    })
}

/** At a place in memory where numbers of eight bytes may stand. */
const aligned = (bytes: Uint8Array): Uint8Array =>
  bytes.byteOffset % 8 === 0 ? bytes : new Uint8Array(bytes)

function decodeBatch(messages: BatchMessages, file: string): Table {
  const options = { useBigInt: true, useBigIntTimestamp: true, useDecimalInt: true }
  const table = tableFromIPC([...messages], options)
  if (table.schema.endianness === Endianness.Big)
    throw unsupported(`${file} is big-endian Arrow, expected little-endian`, { file })
  return table
}

function describeFailure(cause: unknown, file: string): unknown {
  if (isVecsnapError(cause)) return cause
  const reason = messageOf(cause)
  const raise = /unsupported|unrecogni[sz]ed|not supported/i.test(reason) ? unsupported : corrupt
  return raise(`${file} cannot be read as Arrow: ${reason}`, { file }, cause)
}

function columnsOf(table: Table, rowsBefore: number, file: string): RawColumns {
  const { fields } = table.schema
  const names = fields.map(({ name }) => name)
  return {
    rows: table.numRows,
    rowNumber: (row) => rowsBefore + row + 1,
    names,
    vectorNames: names.filter((_, i) => isFloatList(fields[i]!.type)),
    namesOf: () => names,
    column(name) {
      const place = names.indexOf(name)
      const batch = place === -1 ? undefined : table.getChildAt(place).data[0]
      if (batch === undefined) return () => undefined
      return described(() => columnValues(fields[place]!, batch), file)
    },
  }
}

/** Failures other than bad values are of the file: its offsets lead nowhere. */
function described(makeReader: () => ReadValue, file: string): ReadValue {
  const describe = <T>(run: () => T): T => {
    try {
      return run()
    } catch (cause) {
      throw cause instanceof BadValue ? cause : describeFailure(cause, file)
    }
  }
  const read = describe(makeReader)
  return (row) => describe(() => read(row))
}
