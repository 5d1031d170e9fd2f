/**
 * Reads what a Lance manifest refers to, before LanceDB is let near it.
 *
 * A manifest can name files anywhere: absolute paths, other directories, `file://` and `s3://` bases, to
 * which LanceDB would go with the credentials of the process. A shard of ours never does. So whatever is not
 * plainly a file of the shard's own folder is refused, and so is every field that this reader does not know:
 * a field that is not understood may be one more way out.
 *
 * The format: `protos/table.proto` of Lance (messages `Manifest`, `DataFragment`, `IndexSection`), in the
 * protobuf wire format. A file is a few sections, each a message after its length in 4 bytes, and at its end
 * the position of the manifest (8 bytes), two version numbers (2 bytes each) and "LANC"; all numbers are
 * little-endian.
 */
import { corrupt, type VecsnapError } from "../../errors.js"
import { fieldsOf, messageOf, numberOf, textOf, WireProblem } from "./protobuf.js"

/** What a version of a table consists of. */
export interface LanceVersion {
  /** Rows of all fragments, those marked as deleted included. */
  readonly rows: number
  /** Paths below the table's directory, with the sizes that the manifest gives; 0 where it gives none. */
  readonly files: readonly { readonly path: string; readonly size: number }[]
}

/**
 * The manifest of a shard has some kilobytes; one with a megabyte has been tampered with, or is of another
 * program.
 */
export const MANIFEST_MOST_BYTES = 16 * 2 ** 20
const TRAILER_BYTES = 16
const MAGIC = "LANC"

/**
 * Deleted rows, stable row ids, the second format of data files, settings of the table: what leads nowhere
 * else.
 */
const HARMLESS_FLAGS = 0b1111n

/** Names as Lance makes them. A dot alone, a slash or a scheme is in none. */
const DATA_FILE = /^[0-9A-Za-z][0-9A-Za-z_-]*\.lance$/
const INDEX_FILE = /^[a-z][a-z_]*\.(idx|lance)$/
const VECTOR_INDEX = /^\/?(type\.googleapis\.com\/)?lance\.(table|index\.pb)\.VectorIndexDetails$/

/**
 * The files that a manifest leads to. `name` is for messages. Throws `Corrupt` if it leads out of the table's
 * directory, or if there is anything in it that this reader does not know.
 */
export function readLanceManifest(bytes: Uint8Array, name: string): LanceVersion {
  const damaged = (problem: string): VecsnapError =>
    corrupt(`${name} is not a manifest that a shard can have: ${problem}`, { file: name })
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const end = bytes.length - TRAILER_BYTES
  if (end < 0 || Buffer.from(bytes.subarray(end + 12)).toString("latin1") !== MAGIC) {
    throw damaged(`it does not end with "${MAGIC}"`)
  }

  /** The message at a position, which is there whole and before the end of the sections. */
  const section = (position: bigint): Uint8Array => {
    if (position < 0n || position + 4n > BigInt(end)) {
      throw damaged(`it has a section at ${position} of ${end} bytes`)
    }
    const start = Number(position) + 4
    const length = view.getUint32(Number(position), true)
    if (length > end - start) throw damaged(`its section at ${position} has ${length} bytes`)
    return bytes.subarray(start, start + length)
  }

  try {
    return readVersion(section(view.getBigInt64(end, true)), section)
  } catch (error) {
    if (error instanceof WireProblem) throw damaged(error.message)
    throw error
  }
}

function readVersion(manifest: Uint8Array, section: (position: bigint) => Uint8Array): LanceVersion {
  const files: LanceVersion["files"][number][] = []
  let rows = 0
  for (const field of fieldsOf(manifest, "manifest", MANIFEST_FIELDS)) {
    switch (field.number) {
      case 2: {
        const fragment = readFragment(messageOf(field, "fragment"))
        rows += fragment.rows
        files.push(...fragment.files)
        break
      }
      case 6:
        for (const index of fieldsOf(section(numberOf(field, "index section")), "index section", [1])) {
          files.push(...readIndex(messageOf(index, "index")))
        }
        break
      case 9:
      case 10: {
        const unknown = numberOf(field, "feature flags") & ~HARMLESS_FLAGS
        if (unknown !== 0n) throw new WireProblem(`it uses unknown features, flags ${unknown}`)
        break
      }
      case 18:
        throw new WireProblem("it names base paths, from which files outside the shard would be read")
    }
  }
  if (!Number.isSafeInteger(rows)) throw new WireProblem(`its fragments have ${rows} rows`)
  return { rows, files }
}

// Fields that say what the table is and how it came about, and those above. Without 4 (data of a version,
// elsewhere in the file), 17 and 20 (other places).
const MANIFEST_FIELDS = [1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 19, 21]

/** A fragment: its files, its deleted rows, row ids inline (5) with their versions (7, 9), and its rows. */
function readFragment(fragment: Uint8Array): LanceVersion {
  const files: LanceVersion["files"][number][] = []
  let id = 0n
  let rows = 0
  let deletion: string | undefined
  for (const field of fieldsOf(fragment, "fragment", [1, 2, 3, 4, 5, 7, 9])) {
    if (field.number === 1) id = numberOf(field, "fragment id")
    else if (field.number === 2) files.push(readDataFile(messageOf(field, "data file")))
    else if (field.number === 3) deletion = readDeletionFile(messageOf(field, "deletion file"))
    else if (field.number === 4) rows = Number(numberOf(field, "rows"))
  }
  if (deletion !== undefined) files.push({ path: `_deletions/${id}-${deletion}`, size: 0 })
  return { rows, files }
}

/** Path, columns (2, 3), format (4, 5) and size. Without 7, the number of a base path. */
function readDataFile(file: Uint8Array): LanceVersion["files"][number] {
  let path = ""
  let size = 0
  for (const field of fieldsOf(file, "data file", [1, 2, 3, 4, 5, 6])) {
    if (field.number === 1) path = textOf(field, "path of a data file")
    else if (field.number === 6) size = Number(numberOf(field, "size of a data file"))
  }
  if (!DATA_FILE.test(path)) throw new WireProblem(`it names the data file ${show(path)}`)
  return { path: `data/${path}`, size }
}

/**
 * What follows the number of the fragment in the name of its deletion file. Without 7, the number of a base
 * path.
 */
function readDeletionFile(file: Uint8Array): string {
  const values = [0n, 0n, 0n, 0n, 0n]
  for (const field of fieldsOf(file, "deletion file", [1, 2, 3, 4])) {
    values[field.number] = numberOf(field, "deletion file")
  }
  const [, type, version, id] = values
  if (type! > 1n) throw new WireProblem(`it has a deletion file of type ${type}`)
  return `${version}-${id}.${type === 0n ? "arrow" : "bin"}`
}

/** An index: its id, its files, and what says how it was made. Without 9, the number of a base path. */
function readIndex(index: Uint8Array): LanceVersion["files"] {
  let uuid: string | undefined
  const names: { readonly name: string; readonly size: number }[] = []
  for (const field of fieldsOf(index, "index", [1, 2, 3, 4, 5, 6, 7, 8, 10])) {
    switch (field.number) {
      case 1:
        uuid = readUuid(messageOf(field, "index id"))
        break
      case 6: {
        const [type] = fieldsOf(messageOf(field, "index details"), "index details", [1, 2])
        const url = type?.number === 1 ? textOf(type, "type of an index") : ""
        if (!VECTOR_INDEX.test(url)) throw new WireProblem(`it has an index of type ${show(url)}`)
        break
      }
      case 10:
        names.push(readIndexFile(messageOf(field, "index file")))
        break
    }
  }
  if (uuid === undefined) throw new WireProblem("it has an index without an id")
  // Manifests of a time when they did not list them: the file that every vector index has.
  if (names.length === 0) names.push({ name: "index.idx", size: 0 })
  return names.map(({ name, size }) => ({ path: `_indices/${uuid}/${name}`, size }))
}

function readIndexFile(file: Uint8Array): { readonly name: string; readonly size: number } {
  let name = ""
  let size = 0
  for (const field of fieldsOf(file, "index file", [1, 2])) {
    if (field.number === 1) name = textOf(field, "name of an index file")
    else size = Number(numberOf(field, "size of an index file"))
  }
  if (!INDEX_FILE.test(name)) throw new WireProblem(`it names the index file ${show(name)}`)
  return { name, size }
}

function readUuid(message: Uint8Array): string {
  const [field] = fieldsOf(message, "index id", [1])
  const bytes = field && messageOf(field, "index id")
  if (bytes?.length !== 16) throw new WireProblem("it has an index whose id is not a UUID")
  const hex = Buffer.from(bytes).toString("hex")
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5")
}

/** Text of a stranger, for a message. */
const show = (text: string): string => JSON.stringify(text.length > 100 ? `${text.slice(0, 100)}…` : text)
