/** A manifest from what there is to say, as the reference writes it: the same tables, columns and texts. */

import type { Json } from "../../../records.js"
import { loadSqlite } from "../../../shards/sqlite-vec/packages.js"
import { FORMAT_VERSION } from "../documents.js"
import { pythonJson } from "../json.js"
import { DB_PATH_TEMPLATE, SHARD_PREFIX } from "../keys.js"
import { formatTime } from "../times.js"

export interface ManifestFacts {
  readonly run: string
  readonly createdAt: Date
  readonly shards: number
  readonly prefix: string
  readonly custom: Readonly<Record<string, Json>>
  readonly entries: readonly {
    readonly shard: number
    readonly url: string
    readonly rows: number
    readonly bytes: number
    /** 32 hex digits. */
    readonly checkpoint: string
  }[]
}

/** The routing of keys, which vectors do not go by: always this. */
const SHARDING = {
  cel_columns: null,
  cel_expr: null,
  hash_algorithm: "xxh3_64",
  routing_values: null,
  strategy: "hash",
}
const WRITER_INFO = { attempt: 0, duration_ms: 0, stage_id: null, task_attempt_id: null }

const TABLES = `
  CREATE TABLE build_meta (
    run_id TEXT NOT NULL,
    created_at TEXT NOT NULL,
    num_dbs INTEGER NOT NULL,
    s3_prefix TEXT NOT NULL,
    key_col TEXT NOT NULL,
    sharding TEXT NOT NULL,
    db_path_template TEXT NOT NULL,
    shard_prefix TEXT NOT NULL,
    format_version INTEGER NOT NULL,
    key_encoding TEXT NOT NULL,
    custom TEXT NOT NULL DEFAULT '{}'
  );
  CREATE TABLE shards (
    db_id INTEGER NOT NULL PRIMARY KEY,
    db_url TEXT,
    attempt INTEGER NOT NULL,
    row_count INTEGER NOT NULL,
    db_bytes INTEGER NOT NULL,
    min_key TEXT,
    max_key TEXT,
    checkpoint_id TEXT,
    writer_info TEXT NOT NULL DEFAULT '{}'
  );`

/** The bytes of a manifest: a database with a rollback journal, which can be read from memory. */
export async function encodeManifest(facts: ManifestFacts): Promise<Buffer> {
  const Sqlite = await loadSqlite()
  const db = new Sqlite(":memory:")
  try {
    db.pragma("page_size = 4096")
    db.pragma("encoding = 'UTF-8'")
    db.exec(TABLES)
    db.prepare(`INSERT INTO build_meta VALUES (${"?, ".repeat(10)}?)`).run(
      facts.run,
      formatTime(facts.createdAt),
      BigInt(facts.shards),
      facts.prefix,
      "_vector_id",
      pythonJson(SHARDING),
      DB_PATH_TEMPLATE,
      SHARD_PREFIX,
      BigInt(FORMAT_VERSION),
      "raw",
      pythonJson(facts.custom),
    )
    const insert = db.prepare("INSERT INTO shards VALUES (?, ?, 0, ?, ?, NULL, NULL, ?, ?)")
    for (const { shard, url, rows, bytes, checkpoint } of facts.entries)
      insert.run(BigInt(shard), url, BigInt(rows), BigInt(bytes), checkpoint, pythonJson(WRITER_INFO))
    return db.serialize()
  } finally {
    db.close()
  }
}
