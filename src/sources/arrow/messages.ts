/**
 * The messages of an Arrow file or stream, read one at a time, so that a record batch is all that is in
 * memory. What they hold is decoded elsewhere; here it is only found where each ends, and whether the file is
 * whole.
 *
 * https://arrow.apache.org/docs/format/Columnar.html#serialization-and-interprocess-communication-ipc
 */
import type { FileHandle } from "node:fs/promises"
import { corrupt, unsupported } from "../../errors.js"

/** A message with its body, as it stands in the file. The body starts at a multiple of eight in memory. */
export type Message = Uint8Array

/** A record batch with what it takes to decode it: the schema, then the dictionaries that hold for it. */
export type BatchMessages = readonly Message[]

/**
 * The record batches in order. Throws `Corrupt` for a file that is cut off or no Arrow at all; `file` is for
 * messages.
 */
export async function* readMessages(handle: FileHandle, file: string): AsyncGenerator<BatchMessages> {
  const { size } = await handle.stat()
  const input = { handle, file, size }
  const head = (await readExactly(input, 0, Math.min(size, FILE_MAGIC.length))).toString("latin1")
  if (head.startsWith("FEA1"))
    throw unsupported(
      `${file} is Feather of version 1, from before 2020; expected version 2: read it with pandas and write it again`,
      { file },
    )
  yield* head === FILE_MAGIC ? readFile(input) : readStream(input)
}

interface ArrowInput {
  readonly handle: FileHandle
  readonly file: string
  readonly size: number
}

const FILE_MAGIC = "ARROW1"

/** Messages start at multiples of eight. */
const FILE_HEAD_BYTES = 8
const FOOTER_LENGTH_BYTES = 4

/**
 * By the footer, which tells the place of every batch; dictionaries need not stand before the batches that
 * use them.
 */
async function* readFile(input: ArrowInput): AsyncGenerator<BatchMessages> {
  const { file, size } = input
  const tailBytes = FOOTER_LENGTH_BYTES + FILE_MAGIC.length
  if (size < FILE_HEAD_BYTES + tailBytes) throw cutOff(file)
  const tail = await readExactly(input, size - tailBytes, tailBytes)
  const footerBytes = tail.readInt32LE(0)
  if (tail.toString("latin1", FOOTER_LENGTH_BYTES) !== FILE_MAGIC) throw cutOff(file)
  if (footerBytes <= 0 || footerBytes > size - tailBytes - FILE_HEAD_BYTES)
    throw corrupt(`${file} is damaged: its footer cannot have ${footerBytes} bytes`, { file })
  const footer = await readExactly(input, size - tailBytes - footerBytes, footerBytes)
  const schema = schemaMessage(footer)

  const readAt = async (position: number): Promise<Message> => {
    const message = await readMessage(input, position)
    if (message === undefined)
      throw corrupt(`${file} is damaged: there is no message at byte ${position}`, { file })
    return message.bytes
  }
  const dictionaries: Message[] = []
  for (const position of blocksOf(footer, FOOTER_FIELD.dictionaries))
    dictionaries.push(await readAt(position))
  for (const position of blocksOf(footer, FOOTER_FIELD.recordBatches))
    yield [schema, ...dictionaries, await readAt(position)]
}

const cutOff = (file: string): Error =>
  corrupt(`${file} is cut off: an Arrow file ends with ${FILE_MAGIC}`, { file })

async function* readStream(input: ArrowInput): AsyncGenerator<BatchMessages> {
  const { file, size } = input
  let schema: Message | undefined
  let dictionaries: { readonly id: bigint; readonly bytes: Message }[] = []
  let position = 0
  for (;;) {
    const message = await readMessage(input, position)
    if (message === undefined) break
    position = message.end
    if (message.type === MESSAGE.schema) schema = message.bytes
    else if (message.type === MESSAGE.dictionary) {
      const { dictionary } = message
      // One that replaces another makes those before it useless; one that adds to it needs them.
      if (!dictionary!.isDelta) dictionaries = dictionaries.filter(({ id }) => id !== dictionary!.id)
      dictionaries.push({ id: dictionary!.id, bytes: message.bytes })
    } else if (message.type === MESSAGE.recordBatch) {
      if (schema === undefined) throw notArrow(file)
      yield [schema, ...dictionaries.map(({ bytes }) => bytes), message.bytes]
    }
  }
  if (schema === undefined) throw notArrow(file)
  const end = position + (await endMarkerBytes(input, position))
  if (end < size)
    throw corrupt(`${file} has ${size - end} bytes after the end of its Arrow stream, expected none`, {
      file,
    })
}

const notArrow = (file: string): Error => corrupt(`${file} is not an Arrow file or stream`, { file })

const CONTINUATION = 0xffff_ffff

/**
 * Writers of before 2019 end a stream with four zero bytes, and put no continuation marker before messages.
 */
async function endMarkerBytes(input: ArrowInput, position: number): Promise<number> {
  return (await readExactly(input, position, 4)).readUInt32LE(0) === CONTINUATION ? 8 : 4
}

interface MessageAt {
  readonly bytes: Message
  readonly type: number
  readonly dictionary: { readonly id: bigint; readonly isDelta: boolean } | undefined
  readonly end: number
}

/** The message at `position`; `undefined` for the end marker. */
async function readMessage(input: ArrowInput, position: number): Promise<MessageAt | undefined> {
  const { file, size } = input
  if (position + 4 > size)
    throw corrupt(`${file} is cut off: it ends at byte ${size} without the end marker of an Arrow stream`, {
      file,
    })
  const hasContinuation = (await readExactly(input, position, 4)).readUInt32LE(0) === CONTINUATION
  const start = hasContinuation ? position + 4 : position
  const metadataBytes = (await readExactly(input, start, 4)).readInt32LE(0)
  if (metadataBytes === 0) return undefined
  const bodyStart = start + 4 + metadataBytes
  if (metadataBytes < 0 || bodyStart > size)
    throw position === 0 ? notArrow(file) : shortMessage(file, position)
  const metadata = await readExactly(input, start + 4, metadataBytes)
  const message = tableAt(metadata)
  assertSound(message)
  const bodyBytes = Number(message.int64(MESSAGE_FIELD.bodyLength))
  const end = bodyStart + bodyBytes
  if (!(bodyBytes >= 0) || end > size) throw shortMessage(file, position)

  const headBytes = bodyStart - position
  const buffer = new ArrayBuffer(Math.ceil(headBytes / 8) * 8 + bodyBytes)
  const bytes = new Uint8Array(buffer, Math.ceil(headBytes / 8) * 8 - headBytes)
  await readInto(input, bytes, position)
  const type = message.uint8(MESSAGE_FIELD.headerType)
  return { bytes, type, end, dictionary: type === MESSAGE.dictionary ? dictionaryOf(message) : undefined }
}

const shortMessage = (file: string, position: number): Error =>
  corrupt(`${file} is cut off or damaged: the Arrow message at byte ${position} is longer than the file`, {
    file,
  })

function dictionaryOf(message: Table) {
  const header = message.table(MESSAGE_FIELD.header)!
  return {
    id: header.int64(DICTIONARY_FIELD.id),
    isDelta: header.uint8(DICTIONARY_FIELD.isDelta) !== 0,
  }
}

async function readExactly(input: ArrowInput, position: number, length: number): Promise<Buffer> {
  const buffer = Buffer.alloc(length)
  await readInto(input, buffer, position)
  return buffer
}

async function readInto({ handle, file }: ArrowInput, bytes: Uint8Array, position: number): Promise<void> {
  let filled = 0
  while (filled < bytes.length) {
    const { bytesRead } = await handle.read(bytes, filled, bytes.length - filled, position + filled)
    if (bytesRead === 0) throw corrupt(`${file} is cut off: it ended at byte ${position + filled}`, { file })
    filled += bytesRead
  }
}

/**
 * A message with the schema that is in the footer of a file: not every writer puts it before the batches as
 * well. The table of the message stands before the footer, of which it names a part.
 */
function schemaMessage(footer: Buffer): Message {
  const table = tableAt(footer)
  const schema = table.table(FOOTER_FIELD.schema)
  if (schema === undefined) throw new RangeError("the footer has no schema")
  assertSoundSchema(schema)
  const head = Buffer.alloc(SCHEMA_HEAD_BYTES)
  const tableStart = 16
  head.writeUInt32LE(tableStart, 0)
  // The table of offsets: its own size and that of the table, then where version, type and header are.
  for (const [i, value] of [10, 12, 4, 6, 8].entries()) head.writeUInt16LE(value, 4 + i * 2)
  head.writeInt32LE(tableStart - 4, tableStart)
  head.writeUInt16LE(table.uint16(FOOTER_FIELD.version), tableStart + 4)
  head.writeUInt8(MESSAGE.schema, tableStart + 6)
  const headerAt = tableStart + 8
  head.writeUInt32LE(SCHEMA_HEAD_BYTES + schema.start - headerAt, headerAt)
  const prefix = Buffer.alloc(8)
  prefix.writeUInt32LE(CONTINUATION, 0)
  prefix.writeUInt32LE(head.length + footer.length, 4)
  return Uint8Array.from(Buffer.concat([prefix, head, footer]))
}

const SCHEMA_HEAD_BYTES = 32

/** Places of the messages that a list of blocks names. */
function blocksOf(footer: Buffer, field: number): number[] {
  const list = tableAt(footer).list(field, BLOCK_BYTES)
  return list.map((place) => Number(footer.readBigInt64LE(place)))
}

/**
 * Throws `RangeError` where a list is longer than the message, so that damage does not fill the memory of the
 * decoder.
 */
function assertSound(message: Table): void {
  const type = message.uint8(MESSAGE_FIELD.headerType)
  const header = message.table(MESSAGE_FIELD.header)
  if (header === undefined) throw new RangeError("a message has no header")
  if (type === MESSAGE.schema) assertSoundSchema(header)
  else if (type === MESSAGE.recordBatch) assertSoundBatch(header)
  else if (type === MESSAGE.dictionary) {
    const batch = header.table(DICTIONARY_FIELD.data)
    if (batch === undefined) throw new RangeError("a dictionary has no data")
    assertSoundBatch(batch)
  } else throw new RangeError(`a message has the unsupported type ${type}`)
}

function assertSoundBatch(batch: Table): void {
  batch.list(BATCH_FIELD.nodes, 16)
  batch.list(BATCH_FIELD.buffers, 16)
  batch.list(BATCH_FIELD.variadicCounts, 8)
}

function assertSoundSchema(schema: Table): void {
  let fieldsLeft = schema.bytes.length
  const check = (table: Table, field: number, depth: number): void => {
    if (depth > MAX_DEPTH) throw new RangeError(`fields are nested deeper than ${MAX_DEPTH} levels`)
    for (const place of table.list(field, 4)) {
      if (fieldsLeft-- === 0) throw new RangeError("the schema has more fields than bytes")
      const child = table.follow(place)
      child.list(FIELD_FIELD.metadata, 4)
      if (child.uint8(FIELD_FIELD.typeType) === UNION)
        child.table(FIELD_FIELD.type)?.list(UNION_FIELD.typeIds, 4)
      check(child, FIELD_FIELD.children, depth + 1)
    }
  }
  schema.list(SCHEMA_FIELD.metadata, 4)
  check(schema, SCHEMA_FIELD.fields, 0)
}

const MAX_DEPTH = 64

// ---- The few parts of Arrow's FlatBuffers that are needed here (Message.fbs, Schema.fbs, File.fbs) --------

const MESSAGE = { schema: 1, dictionary: 2, recordBatch: 3 } as const

// Places of fields in the table of offsets that FlatBuffers put before a table.
const MESSAGE_FIELD = { headerType: 6, header: 8, bodyLength: 10 } as const
const DICTIONARY_FIELD = { id: 4, data: 6, isDelta: 8 } as const
const BATCH_FIELD = { nodes: 6, buffers: 8, variadicCounts: 12 } as const
const SCHEMA_FIELD = { fields: 6, metadata: 8 } as const
const FIELD_FIELD = { typeType: 8, type: 10, children: 14, metadata: 16 } as const
const UNION = 14
const UNION_FIELD = { typeIds: 6 } as const
const FOOTER_FIELD = { version: 4, schema: 6, dictionaries: 8, recordBatches: 10 } as const
const BLOCK_BYTES = 24

interface Table {
  readonly bytes: Buffer
  readonly start: number
  uint8(field: number): number
  uint16(field: number): number
  int64(field: number): bigint
  table(field: number): Table | undefined
  /** Places of a list's items; none if it is absent. */
  list(field: number, itemBytes: number): readonly number[]
  /** The table that the offset at `place` leads to. */
  follow(place: number): Table
}

/**
 * A table of FlatBuffers; at the start of `bytes` stands the offset of the first. Reading beyond its end
 * throws.
 */
function tableAt(bytes: Buffer, start = bytes.readUInt32LE(0)): Table {
  const fields = start - bytes.readInt32LE(start)
  const fieldsBytes = bytes.readUInt16LE(fields)
  const placeOf = (field: number): number | undefined => {
    const offset = field < fieldsBytes ? bytes.readUInt16LE(fields + field) : 0
    return offset === 0 ? undefined : start + offset
  }
  const read = <T>(field: number, at: (place: number) => T, absent: T): T => {
    const place = placeOf(field)
    return place === undefined ? absent : at(place)
  }
  const follow = (place: number): Table => tableAt(bytes, place + bytes.readUInt32LE(place))
  return {
    bytes,
    start,
    uint8: (field) => read(field, (place) => bytes.readUInt8(place), 0),
    uint16: (field) => read(field, (place) => bytes.readUInt16LE(place), 0),
    int64: (field) => read(field, (place) => bytes.readBigInt64LE(place), 0n),
    table: (field) => read<Table | undefined>(field, follow, undefined),
    list: (field, itemBytes) =>
      read(field, (place) => itemsAt(bytes, place + bytes.readUInt32LE(place), itemBytes), []),
    follow,
  }
}

function itemsAt(bytes: Buffer, start: number, itemBytes: number): readonly number[] {
  const count = bytes.readUInt32LE(start)
  const first = start + 4
  if (first + count * itemBytes > bytes.length)
    throw new RangeError(`a list of ${count} items is longer than its message`)
  return Array.from({ length: count }, (_, i) => first + i * itemBytes)
}
