/**
 * Compares the numbers in a Lance index with those that the snapshot's manifest says, before LanceDB
 * allocates by them: partitions, dimensions, rows, and where everything lies within the file.
 *
 * An index is two Lance files. Both have its inverted file (`IVF` of `protos/index.proto`) in their second
 * global buffer: `index.idx` with the centroids, `auxiliary.idx` with the rows of each partition, whose row
 * ids and vectors are its columns. A Lance file (`protos/file2.proto`) ends with three positions (8 bytes
 * each: metadata of columns, their table, the table of global buffers), two counts (4 bytes each), two
 * version numbers (2 bytes each) and "LANC". A table has a position and a size (8 bytes each) an entry.
 */
import { corrupt } from "../../errors.js"
import { type Field, fieldsOf, messageOf, numberOf, packedOf, WireProblem } from "./protobuf.js"

/** What the index must be like. */
export interface IndexNumbers {
  readonly partitions: number
  readonly dim: number
  readonly rows: number
}

/** Files that have numbers to compare. `auxiliary.idx` has the rows. */
export type IndexFile = "index.idx" | "auxiliary.idx"

const FOOTER_BYTES = 40
/** Far more than an index has, of columns as of global buffers. */
const PARTS_MOST = 16
const PART_BYTES = 16 * 2 ** 20
const FLOAT32 = 2n

/** Bytes of a file: `length` of them from `start` on. */
export type ReadBytes = (start: number, length: number) => Promise<Uint8Array>

/** Throws `Corrupt`, naming `name`, unless the file has exactly these numbers. */
export async function checkIndexFile(
  name: string,
  file: IndexFile,
  sizeBytes: number,
  read: ReadBytes,
  expected: IndexNumbers,
): Promise<void> {
  try {
    await check(file, sizeBytes, read, expected)
  } catch (error) {
    if (!(error instanceof WireProblem)) throw error
    throw corrupt(`${name} is not an index that a shard can have: ${error.message}`, { file: name })
  }
}

async function check(
  file: IndexFile,
  sizeBytes: number,
  read: ReadBytes,
  expected: IndexNumbers,
): Promise<void> {
  // A part is as large as the centroids at most, or has a few numbers for each partition or page.
  const most = PART_BYTES + expected.partitions * (expected.dim * 4 + 32)
  /** Bytes that are there. */
  const within = (start: bigint, length: bigint, what: string): Promise<Uint8Array> => {
    if (start + length > BigInt(sizeBytes) || length > most)
      throw new WireProblem(`its ${what} of ${length} bytes at ${start} is not within its ${sizeBytes} bytes`)
    return read(Number(start), Number(length))
  }
  if (sizeBytes < FOOTER_BYTES) throw new WireProblem(`it has ${sizeBytes} bytes`)
  const footer = Buffer.from(await read(sizeBytes - FOOTER_BYTES, FOOTER_BYTES))
  const [buffers, columns] = [footer.readUInt32LE(24), footer.readUInt32LE(28)]
  if (footer.toString("latin1", 36) !== "LANC" || buffers > PARTS_MOST || columns > PARTS_MOST)
    throw new WireProblem(`it does not end as a Lance file with some columns and buffers`)

  const parts = async (tableAt: bigint, count: number, what: string): Promise<readonly Uint8Array[]> => {
    const table = Buffer.from(await within(tableAt, BigInt(count * 16), `table of ${what}`))
    return Promise.all(
      Array.from({ length: count }, (_, i) =>
        within(table.readBigUInt64LE(i * 16), table.readBigUInt64LE(i * 16 + 8), what),
      ),
    )
  }
  const [descriptor, ivf] = await parts(footer.readBigUInt64LE(16), buffers, "buffer")
  if (descriptor === undefined || ivf === undefined) throw new WireProblem(`it has ${buffers} buffers`)
  const rows = file === "index.idx" ? 0 : expected.rows
  const length = fieldsOf(descriptor, "description", [1, 2]).find((field) => field.number === 2)
  assertSame("rows", length === undefined ? 0n : numberOf(length, "number of rows"), rows)
  checkIvf(ivf, rows, expected, file === "index.idx")
  for (const column of await parts(footer.readBigUInt64LE(8), columns, "column"))
    checkColumn(column, sizeBytes, rows)
}

/** Offsets (2) and lengths (3) of the partitions, centroids (4, formerly 1), and the loss of the training. */
function checkIvf(
  ivf: Uint8Array,
  rows: number,
  { partitions, dim }: IndexNumbers,
  hasCentroids: boolean,
): void {
  let offsets: readonly bigint[] = []
  let lengths: readonly bigint[] = []
  let centroids: Field | undefined
  for (const field of fieldsOf(ivf, "list of partitions", [2, 3, 4, 5])) {
    if (field.number === 2) offsets = packedOf(field, "offsets")
    else if (field.number === 3) lengths = packedOf(field, "lengths")
    else if (field.number === 4) centroids = field
  }
  assertSame("offsets of partitions", offsets.length, partitions)
  assertSame("lengths of partitions", lengths.length, partitions)
  let next = 0n
  for (const [partition, length] of lengths.entries()) {
    if (rows > 0) assertSame(`rows before partition ${partition}`, offsets[partition]!, Number(next))
    next += length
  }
  assertSame("rows in its partitions", next, rows)
  if (hasCentroids && centroids === undefined) throw new WireProblem("it has no centroids")
  if (centroids !== undefined) checkTensor(messageOf(centroids, "centroids"), partitions, dim)
}

/** Type of the elements (1), shape (2) and bytes (3). */
function checkTensor(tensor: Uint8Array, partitions: number, dim: number): void {
  let type = 0n
  let shape = ""
  let bytes = 0
  for (const field of fieldsOf(tensor, "centroids", [1, 2, 3])) {
    if (field.number === 1) type = numberOf(field, "type of centroids")
    else if (field.number === 2) shape = packedOf(field, "shape of centroids").join(" x ")
    else bytes = messageOf(field, "centroids").length
  }
  if (type !== FLOAT32 || shape !== `${partitions} x ${dim}` || bytes !== partitions * dim * 4)
    throw new WireProblem(
      `its centroids are ${shape} of type ${type} in ${bytes} bytes, expected ${partitions} x ${dim} float32`,
    )
}

/** Encoding (1), pages (2), and places and sizes of buffers of its own (3, 4). */
function checkColumn(column: Uint8Array, sizeBytes: number, rows: number): void {
  let stored = 0n
  for (const field of fieldsOf(column, "column", [1, 2, 3, 4])) {
    if (field.number !== 2) continue
    let offsets: readonly bigint[] = []
    let sizes: readonly bigint[] = []
    for (const part of fieldsOf(messageOf(field, "page"), "page", [1, 2, 3, 4, 5])) {
      if (part.number === 1) offsets = packedOf(part, "places of a page")
      else if (part.number === 2) sizes = packedOf(part, "sizes of a page")
      else if (part.number === 3) stored += numberOf(part, "rows of a page")
    }
    assertSame("sizes of a page", sizes.length, offsets.length)
    for (const [i, offset] of offsets.entries()) {
      if (offset + sizes[i]! > BigInt(sizeBytes))
        throw new WireProblem(`it has a page of ${sizes[i]} bytes at ${offset}, of ${sizeBytes} bytes`)
    }
  }
  assertSame("rows in the pages of a column", stored, rows)
}

function assertSame(what: string, got: bigint | number, expected: number): void {
  if (BigInt(got) !== BigInt(expected)) throw new WireProblem(`${what}: ${got}, expected ${expected}`)
}
