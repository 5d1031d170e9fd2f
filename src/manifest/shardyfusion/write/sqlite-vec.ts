/**
 * Builds a shard of sqlite-vec as the reference does: by the extension, row by row, in order of id. Blocks
 * its thread for as long as that takes.
 */
import { join } from "node:path"
import { unsupported } from "../../../errors.js"
import type { ShardRows, ShardSpec } from "../../../shards/backend.js"
import { checkEmptyDirectory } from "../../../shards/checks.js"
import { loadSqlite, loadSqliteVec } from "../../../shards/sqlite-vec/packages.js"
import { pythonJson } from "../json.js"
import { FILE } from "../shards/sqlite-vec.js"

/** Of sqlite-vec itself, which has no inner product. */
const METRICS = ["cosine", "l2"]

/** Throws `Unsupported` for the metric `dot`. */
export async function buildSqliteVec(
  rows: ShardRows,
  dir: string,
  { dim, metric }: ShardSpec,
): Promise<void> {
  if (!METRICS.includes(metric)) {
    throw unsupported(
      `sqlite-vec shards of shardyfusion have the metrics ${METRICS.join(" and ")}, got ${metric}: use lancedb`,
      { metric },
    )
  }
  await checkEmptyDirectory(dir)
  const Sqlite = await loadSqlite()
  const sqliteVec = await loadSqliteVec()
  const db = new Sqlite(join(dir, FILE))
  try {
    sqliteVec.load(db)
    db.pragma("page_size = 4096")
    // Neither journal nor syncs: whatever ends before the file is complete is begun anew elsewhere.
    db.pragma("journal_mode = OFF")
    db.pragma("synchronous = OFF")
    db.exec(`
      BEGIN;
      CREATE TABLE kv (k BLOB PRIMARY KEY NOT NULL, v BLOB NOT NULL) WITHOUT ROWID;
      CREATE VIRTUAL TABLE vec_index USING vec0(embedding float[${dim}] distance_metric=${metric});
      CREATE TABLE vec_payloads (rowid INTEGER PRIMARY KEY, payload TEXT NOT NULL);
      CREATE TABLE vec_id_map (internal_id INTEGER PRIMARY KEY, original_id TEXT NOT NULL);
    `)
    const insertVector = db.prepare("INSERT INTO vec_index (rowid, embedding) VALUES (?, ?)")
    const insertId = db.prepare("INSERT INTO vec_id_map (internal_id, original_id) VALUES (?, ?)")
    const insertPayload = db.prepare("INSERT INTO vec_payloads (rowid, payload) VALUES (?, ?)")
    for (let row = 0; row < rows.rows; row++) {
      const internal = BigInt(row)
      insertVector.run(internal, bytesOf(rows.vectors, row * dim, dim))
      insertId.run(internal, idText(rows.ids.values[row]!))
      const payload = rows.payloads[row]!
      if (payload !== null) insertPayload.run(internal, payload)
    }
    db.exec("COMMIT")
  } finally {
    db.close()
  }
}

const bytesOf = ({ buffer, byteOffset }: Float32Array, first: number, count: number): Uint8Array =>
  new Uint8Array(buffer, byteOffset + 4 * first, 4 * count)

/** Not in order of keys: as Python writes `{"v": …, "t": …}`. */
const idText = (id: string | bigint): string =>
  `{"v": ${pythonJson(id)}, "t": "${typeof id === "string" ? "str" : "int"}"}`
