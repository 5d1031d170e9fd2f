/** What a shard file says of itself, checked before anything is read by it. */
import type Database from "better-sqlite3"
import { corrupt } from "../../errors.js"
import type { ShardSpec } from "../backend.js"
import { checkFacts, checkRowCount, describeFields } from "../stored.js"
import {
  FORMAT,
  SELECT_CHUNKS,
  SELECT_EXTENT,
  SELECT_META,
  VERSION_BY_CELL,
  VERSION_BY_ID,
} from "./schema.js"

/** A key and a value of the table of facts, apart from the list of fields. */
const META_BYTES = 1000

/** Rows whose vectors lie in one blob. */
export interface Chunk {
  readonly id: bigint
  readonly firstRow: number
  /** Rows in use; they come first. */
  readonly rows: number
  /** Rows that there is room for. */
  readonly size: number
}

/**
 * The number of rows that the file says it has, and in what order, once it is clear that the file belongs to
 * the snapshot.
 */
export function readFacts(
  db: Database.Database,
  file: string,
  spec: ShardSpec,
  { sizeBytes, expectedRows }: { readonly sizeBytes: number; readonly expectedRows: number | undefined },
): { readonly rows: number; readonly byCell: boolean } {
  const longest = META_BYTES + Buffer.byteLength(describeFields(spec.fields))
  const meta = new Map(db.prepare(SELECT_META).raw().all(longest) as [string, string][])
  const version = meta.get("version")
  const isKnown = version === VERSION_BY_ID || version === VERSION_BY_CELL
  if (meta.get("format") !== FORMAT || !isKnown) {
    throw corrupt(
      `${file} has the wrong format: expected ${FORMAT} ${VERSION_BY_ID} or ${VERSION_BY_CELL}, got ${meta.get("format")} ${version}`,
      { file },
    )
  }
  const facts = {
    dim: meta.get("dim"),
    metric: meta.get("metric"),
    idType: meta.get("idType"),
    fields: meta.get("fields"),
  }
  checkFacts(file, facts, spec)
  const rows = Number(meta.get("rows"))
  checkRowCount(file, rows, expectedRows)
  // Before anything is counted up to that number: pages may lead to one another without end.
  if (rows * spec.dim * 4 > sizeBytes) {
    throw corrupt(
      `${file}: expected ${meta.get("rows")} records numbered from 1, but ${sizeBytes} bytes have no room for their vectors`,
      { file },
    )
  }
  const extent = db
    .prepare(SELECT_EXTENT)
    .raw()
    .get(Number.isSafeInteger(rows) ? rows + 1 : 0) as bigint[]
  const expected = [rows, 1, rows]
  if (!(rows >= 1) || expected.some((value, i) => Number(extent[i]) !== value)) {
    throw corrupt(`${file}: expected ${meta.get("rows")} records numbered from 1, got ${extent}`, { file })
  }
  return { rows, byCell: version === VERSION_BY_CELL }
}

/** As the file has it: a file may hold anything in a column that is not strict. */
interface StoredChunk {
  readonly chunk_id: bigint
  readonly size: unknown
  readonly validity: unknown
  readonly rowids: unknown
}

/** The chunks of the vec0 table, which must hold rowids 1 to `rows` in order and without gaps. */
export function readChunks(db: Database.Database, file: string, rows: number, sizeBytes: number): Chunk[] {
  const stored = db.prepare(SELECT_CHUNKS).iterate(sizeBytes, sizeBytes) as IterableIterator<StoredChunk>
  const chunks: Chunk[] = []
  let firstRow = 0
  for (const { chunk_id: id, size: storedSize, validity, rowids } of stored) {
    const size = Number(storedSize)
    const used = Math.min(size, rows - firstRow)
    const sound =
      used > 0 &&
      size === (chunks[0]?.size ?? size) &&
      validity instanceof Uint8Array &&
      validity.byteLength === size / 8 &&
      rowids instanceof Uint8Array &&
      rowids.byteLength === size * 8 &&
      holdsRows(validity, rowids, firstRow, used)
    if (!sound)
      throw corrupt(`${file}: vector chunk ${id} does not hold rows from ${firstRow + 1} on`, { file })
    chunks.push({ id, firstRow, rows: used, size })
    firstRow += used
  }
  if (firstRow !== rows) throw corrupt(`${file}: expected vectors of ${rows} rows, got ${firstRow}`, { file })
  return chunks
}

/** Whether exactly the first `used` places of a chunk are in use, by the rows from `firstRow` on. */
function holdsRows(validity: Uint8Array, rowids: Uint8Array, firstRow: number, used: number): boolean {
  const view = new DataView(rowids.buffer, rowids.byteOffset, rowids.byteLength)
  for (let place = 0; place < validity.length * 8; place++) {
    const inUse = ((validity[place >> 3]! >> (place & 7)) & 1) === 1
    if (inUse !== place < used) return false
    if (inUse && view.getBigInt64(place * 8, true) !== BigInt(firstRow + place + 1)) return false
  }
  return true
}
