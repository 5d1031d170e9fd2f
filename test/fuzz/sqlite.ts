/** Changes of an SQLite file: of its pages, as its format has them, and by statements. */
import Sqlite from "better-sqlite3"
import { type Altered, alterBytes } from "./bytes.js"
import type { Chance } from "./chance.js"

export function alterSqlite(original: Uint8Array, chance: Chance): Altered {
  switch (chance.below(5)) {
    case 0:
      return alterBytes(original, chance)
    case 1:
      return alterHeader(original, chance)
    case 2:
      return alterByStatement(original, chance)
    default:
      return alterPage(original, chance)
  }
}

/** https://www.sqlite.org/fileformat2.html#the_database_header: offset and bytes of its fields. */
const HEADER: readonly (readonly [name: string, at: number, bytes: 1 | 2 | 4])[] = [
  ["page size", 16, 2],
  ["write version", 18, 1],
  ["read version", 19, 1],
  ["reserved space", 20, 1],
  ["pages", 28, 4],
  ["first free page", 32, 4],
  ["free pages", 36, 4],
  ["schema format", 44, 4],
  ["largest root page", 52, 4],
  ["text encoding", 56, 4],
  ["user version", 60, 4],
]

function alterHeader(original: Uint8Array, chance: Chance): Altered {
  const bytes = Buffer.from(original)
  const [name, at, width] = chance.pick(HEADER)
  const value =
    chance.pick([0, 1, 2, 3, 5, 512, 1024, 4096, 0xffff, 0x7fffffff, 0xffffffff]) % 2 ** (8 * width)
  bytes.writeUIntBE(value, at, width)
  return { bytes, what: `header: ${name} ${value}` }
}

/** Page types: inner and leaf pages of indexes and tables. */
const TYPES = [2, 5, 10, 13]

function alterPage(original: Uint8Array, chance: Chance): Altered {
  const bytes = Buffer.from(original)
  const pageBytes = bytes.readUInt16BE(16) === 1 ? 65_536 : bytes.readUInt16BE(16)
  const pages = bytes.length / pageBytes
  const page = chance.below(pages)
  const start = page * pageBytes
  const header = start + (page === 0 ? 100 : 0)
  const cells = bytes.readUInt16BE(header + 3)
  const isTree = TYPES.includes(bytes[header]!)
  const other = chance.pick([0, 1, page + 1, 1 + chance.below(pages), pages + 1, 0xffffffff])
  if (!isTree) {
    // An overflow page begins with the number of the next one.
    bytes.writeUInt32BE(other, start)
    return { bytes, what: `page ${page + 1} leads to page ${other}` }
  }
  const isInner = bytes[header]! < 10
  const pointers = header + (isInner ? 12 : 8)
  switch (chance.below(6)) {
    case 0: {
      const type = chance.pick([...TYPES, 0, 1, 255])
      bytes[header] = type
      return { bytes, what: `page ${page + 1} is of type ${type}` }
    }
    case 1: {
      const count = chance.pick([0, 1, cells + 1, cells - 1, 1000, 0xffff])
      bytes.writeUInt16BE(Math.max(0, count), header + 3)
      return { bytes, what: `page ${page + 1} has ${count} cells instead of ${cells}` }
    }
    case 2:
      if (isInner) {
        bytes.writeUInt32BE(other, header + 8)
        return { bytes, what: `the right of page ${page + 1} is page ${other}` }
      }
      bytes.writeUInt16BE(chance.below(0x10000), header + 5)
      return { bytes, what: `the content of page ${page + 1} begins elsewhere` }
    case 3: {
      const cell = chance.below(Math.max(1, cells))
      const at = chance.pick([0, 1, chance.below(pageBytes), pageBytes - 1, 0xffff])
      bytes.writeUInt16BE(at, pointers + 2 * cell)
      return { bytes, what: `cell ${cell} of page ${page + 1} is at ${at}` }
    }
    case 4: {
      // All cells are one: rows that share what they hold.
      const first = bytes.readUInt16BE(pointers)
      for (let cell = 1; cell < cells; cell++) bytes.writeUInt16BE(first, pointers + 2 * cell)
      return { bytes, what: `all ${cells} cells of page ${page + 1} are the first` }
    }
    default: {
      const cell = chance.below(Math.max(1, cells))
      const at = start + (bytes.readUInt16BE(pointers + 2 * cell) % pageBytes) + chance.below(12)
      const values = Buffer.from(
        Array.from({ length: 1 + chance.below(9) }, () => chance.pick([0, 1, 0x7f, 0x81, 0xff])),
      )
      values.copy(bytes, Math.min(at, bytes.length - values.length))
      return { bytes, what: `the start of cell ${cell} of page ${page + 1} is ${values.toString("hex")}` }
    }
  }
}

const NAN = Buffer.from([0, 0, 0xc0, 0x7f])
const INFINITY = Buffer.from([0, 0, 0x80, 0x7f])

/** What somebody who has SQLite would do. Each is one that a shard's writer never does. */
const STATEMENTS: readonly string[] = [
  "UPDATE meta SET value = '9999999999' WHERE key = 'rows'",
  "UPDATE meta SET value = '-1' WHERE key = 'rows'",
  "UPDATE meta SET value = 'NaN' WHERE key = 'rows'",
  "UPDATE meta SET value = '1e3' WHERE key = 'rows'",
  "UPDATE meta SET value = '1048576' WHERE key = 'dim'",
  "UPDATE meta SET value = '2' WHERE key = 'version'",
  "UPDATE meta SET value = printf('%.*c', 5000000, 'x') WHERE key = 'format'",
  "DELETE FROM meta",
  "DELETE FROM records WHERE position % 3 = 0",
  "UPDATE records SET payload = '{' WHERE position < 9",
  "UPDATE records SET payload = printf('%.*c', 3000000, '[') WHERE position < 5",
  "UPDATE records SET payload = '[' || printf('%.*c', 3000000, '9') || ']' WHERE position < 5",
  'UPDATE records SET payload = \'{"__proto__":{"polluted":1},"a":1e999}\'',
  "UPDATE records SET payload = CAST(x'ff00fe22c0' AS TEXT)",
  "UPDATE records SET payload = '[0' || replace(printf('%.*c', 2000000, ','), ',', ',{}') || ']' WHERE position < 5",
  "UPDATE records SET payload = NULL, c0 = printf('%.*c', 1000000, char(8238)) WHERE position < 20",
  "UPDATE records SET c0 = NULL, c1 = NULL, c2 = NULL, c3 = NULL",
  "UPDATE records SET c1 = 9223372036854775807, c3 = 7",
  "UPDATE records SET c2 = 'text'",
  "UPDATE records SET c2 = x'00'",
  "UPDATE records SET c2 = 9e999",
  "UPDATE records SET id = id || char(27) || '[31m' || char(917569)",
  "UPDATE records SET id = printf('%.*c%d', 100000, 'i', position)",
  "UPDATE vec_index_chunks SET size = 2147483640",
  "UPDATE vec_index_chunks SET size = size + 8",
  "UPDATE vec_index_chunks SET validity = x''",
  "UPDATE vec_index_chunks SET rowids = zeroblob(length(rowids))",
  "INSERT INTO vec_index_chunks (size, validity, rowids) SELECT size, validity, rowids FROM vec_index_chunks",
  "DELETE FROM vec_index_vector_chunks00",
  "UPDATE vec_index_vector_chunks00 SET vectors = x''",
  "UPDATE vec_index_vector_chunks00 SET vectors = 'text'",
  "UPDATE vec_index_vector_chunks00 SET vectors = zeroblob(length(vectors))",
  "DROP TABLE vec_index_vector_chunks00; CREATE VIEW vec_index_vector_chunks00 AS SELECT 1 AS rowid, zeroblob(9) AS vectors",
  "CREATE TABLE other (x); INSERT INTO other VALUES (1)",
  "CREATE INDEX other ON records (c0)",
  "CREATE TRIGGER other AFTER INSERT ON records BEGIN DELETE FROM records; END",
  "PRAGMA journal_mode = WAL",
  "PRAGMA user_version = 7",
  "PRAGMA application_id = 7",
  "VACUUM",
]

function alterByStatement(original: Uint8Array, chance: Chance): Altered {
  const db = new Sqlite(Buffer.from(original))
  try {
    db.unsafeMode(true)
    if (chance.oneIn(5)) {
      const number = chance.pick([NAN, INFINITY, Buffer.from([0xff, 0xff, 0x7f, 0x7f])])
      return { bytes: withVectors(db, number, chance), what: `vectors have ${number.toString("hex")}` }
    }
    const statement = chance.pick(STATEMENTS)
    try {
      db.exec(statement)
    } catch (error) {
      return { bytes: Buffer.from(original), what: `nothing: ${String(error).slice(0, 80)}` }
    }
    return { bytes: Buffer.from(db.serialize()), what: statement }
  } finally {
    db.close()
  }
}

/** Puts four bytes in place of some of the vectors' numbers. */
function withVectors(db: Sqlite.Database, number: Buffer, chance: Chance): Buffer {
  const rows = db.prepare("SELECT rowid AS id, vectors FROM vec_index_vector_chunks00").all() as {
    readonly id: number
    readonly vectors: Buffer
  }[]
  const { id, vectors } = chance.pick(rows)
  const places = chance.pick([1, 3, vectors.length / 4])
  for (let i = 0; i < places; i++) {
    const place = places === vectors.length / 4 ? i : chance.below(vectors.length / 4)
    number.copy(vectors, place * 4)
  }
  db.prepare("UPDATE vec_index_vector_chunks00 SET vectors = ? WHERE rowid = ?").run(vectors, id)
  return Buffer.from(db.serialize())
}
