/** What of the database counts, and what does not: sections on tables and columns of the format. */
import Sqlite from "better-sqlite3"
import { beforeAll, expect, test } from "vitest"
import { META_COLUMNS, SHARD_COLUMNS } from "../../../../src/manifest/shardyfusion/documents.js"
import { readManifestFile } from "../../../../src/manifest/shardyfusion/manifest-file.js"
import { encodeManifest } from "../../../../src/manifest/shardyfusion/write/manifest.js"

const FACTS = {
  run: "R",
  createdAt: new Date("2026-01-02T03:04:05Z"),
  shards: 3,
  prefix: "s3://b/p",
  custom: { vector: { dim: 2, metric: "l2" }, é: 1 },
  entries: [{ shard: 1, url: "s3://b/p/shards/x", rows: 5, bytes: 100, checkpoint: "0".repeat(32) }],
}
let sound: Buffer

beforeAll(async () => {
  sound = await encodeManifest(FACTS)
})

/** The manifest after some SQL. */
function altered(sql: string): Buffer {
  const db = new Sqlite(Buffer.from(sound))
  db.exec(sql)
  const bytes = db.serialize()
  db.close()
  return bytes
}

const META = META_COLUMNS.join(", ")
const SHARDS = SHARD_COLUMNS.join(", ")

test("what is written is read again, and its texts are those of Python", async () => {
  expect(await readManifestFile(sound, "m")).toMatchObject({ run: "R", shards: 3, custom: { é: 1 } })
  const db = new Sqlite(Buffer.from(sound))
  expect(db.pragma("page_size", { simple: true })).toBe(4096)
  expect(db.pragma("encoding", { simple: true })).toBe("UTF-8")
  expect([
    db.pragma("user_version", { simple: true }),
    db.pragma("application_id", { simple: true }),
  ]).toEqual([0, 0])
  expect(sound.length).toBe(12_288)
  expect(db.prepare("SELECT created_at, custom FROM build_meta").raw().get()).toEqual([
    "2026-01-02T03:04:05Z",
    '{"vector": {"dim": 2, "metric": "l2"}, "\\u00e9": 1}',
  ])
  db.close()
})

test.each([
  [
    "columns of other types, in another order, without constraints",
    `
    CREATE TABLE m (${[...META_COLUMNS].reverse().join(" BLOB, ")} BLOB);
    INSERT INTO m (${META}) SELECT ${META} FROM build_meta;
    DROP TABLE build_meta; ALTER TABLE m RENAME TO build_meta`,
  ],
  [
    "more columns and more tables",
    `
    ALTER TABLE build_meta ADD COLUMN later TEXT; ALTER TABLE shards ADD COLUMN later INTEGER;
    CREATE TABLE other (x)`,
  ],
  [
    "a second row about the snapshot",
    `
    INSERT INTO build_meta SELECT 'other', ${META_COLUMNS.slice(1).join(", ")} FROM build_meta`,
  ],
  ["a version that is text", "UPDATE build_meta SET format_version = '4'"],
  ["larger pages", "PRAGMA page_size = 8192; VACUUM"],
])("%s make no difference", async (_, sql) => {
  expect(await readManifestFile(altered(sql), "m")).toEqual(await readManifestFile(sound, "m"))
})

test.each([
  ...META_COLUMNS.map((column) => ["build_meta", column] as const),
  ...SHARD_COLUMNS.map((column) => ["shards", column] as const),
])("all columns must be there: without %s.%s it is damaged", async (table, column) => {
  const bytes = altered(`ALTER TABLE ${table} RENAME COLUMN ${column} TO other`)
  await expect(readManifestFile(bytes, "m")).rejects.toMatchObject({
    tag: "Corrupt",
    message: `m: table ${table} has no column ${column}`,
  })
})

test.each([
  ["without shards", "DROP TABLE shards"],
  [
    "with a view in place of a table",
    `ALTER TABLE shards RENAME TO s; CREATE VIEW shards AS SELECT ${SHARDS} FROM s`,
  ],
  [
    "with a column that computes",
    `
    CREATE TABLE s (${SHARD_COLUMNS.slice(1).join(", ")}, db_id GENERATED ALWAYS AS (1));
    DROP TABLE shards; ALTER TABLE s RENAME TO shards`,
  ],
])("a database %s is damaged", async (_, sql) => {
  await expect(readManifestFile(altered(sql), "m")).rejects.toMatchObject({ tag: "Corrupt" })
})

test.each([
  ["of other bytes", () => Buffer.from("SQLite format 2\0".padEnd(200))],
  ["that is empty", () => Buffer.alloc(0)],
  [
    "with a write-ahead log",
    () => {
      const bytes = Buffer.from(sound)
      bytes.writeUInt16BE(0x0202, 18)
      return bytes
    },
  ],
  ["that is cut off", () => sound.subarray(0, 5000)],
])("a file %s is no manifest", async (_, make) => {
  await expect(readManifestFile(make(), "m")).rejects.toMatchObject({
    tag: "Corrupt",
    message: expect.stringMatching(/^m[: ]/),
  })
})
