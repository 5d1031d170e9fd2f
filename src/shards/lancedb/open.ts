import { lstat, open, readdir } from "node:fs/promises"
import { basename, join } from "node:path"
import type { Connection, Session, Table } from "@lancedb/lancedb"
import type { Schema } from "apache-arrow"
import { corrupt, isVecsnapError, messageOf } from "../../errors.js"
import type { FieldType, SnapshotIdType } from "../../records.js"
import { readRange } from "../../storage/files.js"
import type { Metric } from "../../vectors/metric.js"
import type { IndexDescription, ShardSpec } from "../backend.js"
import { checkFacts, checkRowCount } from "../stored.js"
import { checkIndexFile, type IndexFile, type IndexNumbers } from "./index-file.js"
import { MANIFEST_MOST_BYTES, readLanceManifest } from "./manifest-file.js"
import type { LanceDb } from "./packages.js"
import { FORMAT, INDEX, ownLayout, TABLE, type TableLayout, tableDir, VERSION } from "./schema.js"

/** An open table. */
export interface OpenTable {
  readonly table: Table
  /** The table's directory, for messages. */
  readonly file: string
  readonly spec: ShardSpec
  readonly rows: number
  readonly index: IvfFlat
  readonly layout: TableLayout
  close(): void
}

/** The one kind of index that we build. */
export interface IvfFlat {
  readonly partitions: number
  /** Partitions searched per query. If it is all of them, the search is exact. */
  readonly probes: number
  /**
   * Length of the longest vector; recorded under `dot`, where it bounds what LanceDB's arithmetic may be off
   * by.
   */
  readonly maxNorm: number
}

/** Opens and validates a table. Throws `Corrupt`, naming it, if it is not what `spec` and `index` say. */
export async function openTable(
  lancedb: LanceDb,
  session: Session,
  dir: string,
  spec: ShardSpec,
  index: IndexDescription,
  expected?: number | undefined,
): Promise<OpenTable> {
  const file = tableDir(dir)
  const ivf = readIndex(file, index)
  return reading(file, async () => {
    // Before LanceDB, which would follow a manifest wherever it leads, and create a missing directory.
    await checkVersions(file, { partitions: ivf.partitions, dim: spec.dim })
    // The session as an option: as a third argument it is dropped without a word.
    const connection = await lancedb.connect(dir, { session })
    try {
      const table = await connection.openTable(TABLE)
      const rows = await checkTable(table, file, spec, expected)
      const layout = ownLayout(spec)
      return { table, file, spec, rows, index: ivf, layout, close: () => closeTable(connection, table) }
    } catch (error) {
      connection.close()
      throw error
    }
  })
}

/**
/**
 * Throws `Corrupt` if a version of the table leads to anything but its own files, or to an index with other
 * numbers. Every version is looked at: which of them LanceDB opens is for it to decide. Without numbers there
 * is no index that is used, whose files need not be there.
 */
export async function checkVersions(
  file: string,
  numbers: Omit<IndexNumbers, "rows"> | undefined,
): Promise<void> {
  const folder = join(file, "_versions")
  const names = (await readdir(folder)).filter((name) => name !== VERSION_HINT)
  const unknown = names.find((name) => !VERSION_FILE.test(name))
  if (unknown !== undefined || names.length === 0) {
    const found = unknown === undefined ? "none" : JSON.stringify(unknown)
    throw corrupt(`${folder} must have manifests named by 20 digits, found ${found}`, { file: folder })
  }
  for (const name of names) {
    const path = join(folder, name)
    // Its size is bounded before it is read, as that of anything that a stranger may have written.
    const { files, rows } = readLanceManifest(await readBounded(path, MANIFEST_MOST_BYTES), path)
    for (const { path: part, size } of files) {
      if (numbers === undefined && part.startsWith("_indices/")) continue
      await checkTableFile(join(file, part), size, path)
      if (numbers !== undefined) await checkIndexNumbers(join(file, part), { ...numbers, rows })
    }
  }
}

async function checkTableFile(path: string, size: number, manifest: string): Promise<void> {
  // Not what a link leads to.
  const info = await lstat(path).catch(() => undefined)
  if (!info?.isFile())
    throw corrupt(`${manifest} names ${path}, which is not there as a file`, { file: path })
  if (size !== 0 && info.size !== size) {
    throw corrupt(`${path} has ${info.size} bytes, expected ${size} as ${manifest} says`, { file: path })
  }
}

/** Looks at a file of an index, if it is one that has numbers. */
async function checkIndexNumbers(path: string, numbers: IndexNumbers): Promise<void> {
  const name = INDEX_FILES.find((known) => basename(path) === known)
  if (name === undefined) return
  const handle = await open(path)
  try {
    const { size } = await handle.stat()
    const read = (start: number, length: number) => readRange(handle, path, start, start + length)
    await checkIndexFile(path, name, size, read, numbers)
  } finally {
    await handle.close()
  }
}

const INDEX_FILES: readonly IndexFile[] = ["index.idx", "auxiliary.idx"]

export function closeTable(connection: Connection, table: Table): void {
  table.close()
  connection.close()
}

function readIndex(file: string, { kind, partitions, probes, maxNorm = 0 }: IndexDescription): IvfFlat {
  const known =
    kind === "ivf_flat" &&
    typeof partitions === "number" &&
    typeof probes === "number" &&
    typeof maxNorm === "number"
  // They go into native code as they are.
  const sound = known && isCount(partitions, PARTITIONS_MAX) && isCount(probes, partitions) && maxNorm >= 0
  if (known && !sound) {
    throw corrupt(
      `${file} cannot have an index of ${partitions} partitions, ${probes} probes and norm ${maxNorm}`,
      { file },
    )
  }
  if (!known) throw corrupt(`${file} cannot have an index of kind "${kind}": expected "ivf_flat"`, { file })
  return { partitions, probes, maxNorm }
}

/** Named 2^64 - 1 - version, with leading zeros. */
const VERSION_FILE = /^\d{20}\.manifest$/

/** Which version is the latest, by number, as LanceDB leaves it behind after changes. */
const VERSION_HINT = "latest_version_hint.json"

/** A file's content. Throws `Corrupt` if it is longer than `most` bytes, before anything is read. */
async function readBounded(path: string, most: number): Promise<Uint8Array> {
  const handle = await open(path)
  try {
    const { size } = await handle.stat()
    if (size > most) throw corrupt(`${path} has ${size} bytes, expected at most ${most}`, { file: path })
    return await handle.readFile()
  } finally {
    await handle.close()
  }
}

const ID_COLUMN: Readonly<Record<SnapshotIdType, string>> = {
  string: "Utf8",
  int64: "Int64",
  mixed: "none, since no table of ours has ids of both types",
}
const FIELD_COLUMN: Readonly<Record<FieldType, string>> = {
  string: "Utf8",
  int64: "Int64",
  float64: "Float64",
  bool: "Bool",
}

const PARTITIONS_MAX = 2 ** 20
const isCount = (value: number, most: number): boolean =>
  Number.isInteger(value) && value >= 1 && value <= most

/** The number of rows, once it is clear that the table is complete, indexed and belongs to the snapshot. */
async function checkTable(
  table: Table,
  file: string,
  spec: ShardSpec,
  expected: number | undefined,
): Promise<number> {
  const schema = await table.schema()
  const format = `${schema.metadata.get("format")} ${schema.metadata.get("version")}`
  if (format !== `${FORMAT} ${VERSION}`) {
    throw corrupt(`${file} has the wrong format: expected ${FORMAT} ${VERSION}, got ${format}`, { file })
  }
  const typeOf = (name: string) => schema.fields.find((field) => field.name === name)?.type
  const idTypes: Readonly<Record<string, string>> = { Utf8: "string", Int64: "int64" }
  const facts = {
    dim: /^FixedSizeList\[(\d+)\]<Float32>$/.exec(String(typeOf("vector")))?.[1],
    metric: schema.metadata.get("metric"),
    idType: idTypes[String(typeOf("id"))],
    fields: schema.metadata.get("fields"),
  }
  checkFacts(file, facts, spec)
  checkColumns(file, schema, spec)
  const rows = await table.countRows()
  checkRowCount(file, rows, expected)
  await checkIndex(table, file, spec.metric, rows)
  // The manifest alone has been read so far. This fails now, not in the first query, if other files are
  // missing.
  const first = await table
    .query()
    .select([...ownLayout(spec).columns])
    .limit(1)
    .toArrow()
  if (rows < 1 || first.numRows !== 1) throw corrupt(`${file} has no rows`, { file })
  return rows
}

/** Names and types of all columns: answers are taken for what the snapshot declares. */
function checkColumns(file: string, schema: Schema, spec: ShardSpec): void {
  const got = schema.fields.map(({ name, type }) => `${name} ${type}`).join(", ")
  const expected = [
    `id ${ID_COLUMN[spec.id.type]}`,
    `vector FixedSizeList[${spec.dim}]<Float32>`,
    ...spec.fields.map(({ type }, i) => `c${i} ${FIELD_COLUMN[type]}`),
    "payload Utf8",
  ].join(", ")
  if (got !== expected)
    throw corrupt(`${file} has the wrong columns: expected ${expected}, got ${got}`, { file })
}

/** Every row must be in the index: LanceDB answers without a word from an index that lacks some. */
async function checkIndex(table: Table, file: string, metric: Metric, rows: number): Promise<void> {
  const stats = await table.indexStats(INDEX)
  const found =
    stats && `${stats.indexType} ${stats.distanceType}, ${stats.numIndexedRows} of ${rows} rows indexed`
  const expected = `IVF_FLAT ${metric}, ${rows} of ${rows} rows indexed`
  if (found !== expected || stats?.numUnindexedRows !== 0) {
    throw corrupt(`${file} has the wrong index: expected ${expected}, got ${found ?? "none"}`, { file })
  }
}

/** Runs a read of the table and turns LanceDB's errors, which are plain, into ours. */
export async function reading<T>(file: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read()
  } catch (error) {
    if (isVecsnapError(error)) throw error
    const reason = messageOf(error)
    throw corrupt(`${file} is not a readable shard: ${reason}`, { file }, error)
  }
}
