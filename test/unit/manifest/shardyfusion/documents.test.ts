import { expect, test } from "vitest"
import { decodeManifest, type Row } from "../../../../src/manifest/shardyfusion/documents.js"

const VECTOR = { dim: 2, metric: "l2", sharding_strategy: "explicit", num_probes: 1 }
const META: Row = {
  run_id: "R",
  created_at: "2026-01-02T03:04:05Z",
  num_dbs: 3n,
  s3_prefix: "s3://b/p",
  key_col: "_vector_id",
  sharding: '{"hash_algorithm": "xxh3_64"}',
  db_path_template: "db={db_id:05d}",
  shard_prefix: "shards",
  format_version: 4n,
  key_encoding: "raw",
  custom: JSON.stringify({ vector: VECTOR, mine: 1 }),
}
const SHARD: Row = {
  db_id: 1n,
  db_url: "s3://b/p/shards/x",
  attempt: 0n,
  row_count: 5n,
  db_bytes: 100n,
  min_key: null,
  max_key: null,
  checkpoint_id: null,
  writer_info: "{}",
}
const decode = (meta: object = {}, rows: readonly object[] = [{}]) =>
  decodeManifest("m", { ...META, ...meta }, rows.map((row) => ({ ...SHARD, ...row })) as readonly Row[])
const withVector = (vector: object) => ({ custom: JSON.stringify({ vector: { ...VECTOR, ...vector } }) })
const withSharding = (sharding: object) => ({
  sharding: JSON.stringify({ hash_algorithm: "xxh3_64", ...sharding }),
})

test("a manifest says all that there is", () => {
  expect(decode()).toMatchObject({
    run: "R",
    shards: 3,
    prefix: "s3://b/p",
    entries: [{ shard: 1, url: "s3://b/p/shards/x", rows: 5, bytes: 100 }],
    vector: { dim: 2, metric: "l2", strategy: "explicit", probes: 1 },
    custom: { mine: 1 },
  })
})

test.each([
  ["numbers as text and as floats", { format_version: "4", num_dbs: 3.0 }, [{}]],
  ["a version that is a float", { format_version: 4 }, [{}]],
  ["no shard, which is an empty snapshot", {}, []],
  ["gaps, and shards in any order", {}, [{ db_id: 2n }, { db_id: 0n }]],
  ["a shard without URL, which is empty", {}, [{ db_url: null }]],
  ["keys that are integers or strings", {}, [{ min_key: "1", max_key: '"z"', checkpoint_id: "any" }]],
  ["what it does not know of a writer", {}, [{ writer_info: '{"x": [1]}' }]],
  ["other encodings of keys", { key_encoding: "u64be" }, [{}]],
  ["the encoding u32be", { key_encoding: "u32be" }, [{}]],
  ["the encoding utf8", { key_encoding: "utf8" }, [{}]],
  [
    "a name of keys and templates of others",
    { key_col: "k", db_path_template: "x", shard_prefix: "s" },
    [{}],
  ],
  ["a time with an offset and nine digits", { created_at: "2026-01-02 03:04:05.123456789+02:00" }, [{}]],
  [
    "any JSON for what is JSON",
    { sharding: ' {"strategy" :null, "hash_algorithm":"xxh3_64"}'.replace("null", '"hash"') },
    [{}],
  ],
  [
    "routing of keys by CEL",
    withSharding({ strategy: "cel", cel_expr: "a", cel_columns: { a: "int" } }),
    [{}],
  ],
  [
    "nulls in the routing of keys",
    withSharding({ strategy: "hash", cel_expr: null, routing_values: null }),
    [{}],
  ],
  ["unknown properties of vectors", withVector({ later: { a: 1 } }), [{}]],
  [
    "a metric and a strategy that are not told",
    withVector({ metric: undefined, sharding_strategy: undefined }),
    [{}],
  ],
])("%s is taken", (_, meta, rows) => {
  expect(decode(meta, rows).run).toBe("R")
})

test.each([
  ["another version", { format_version: 3n }, "of version 3; this vecsnap reads version 4"],
  ["a later version", { format_version: 5n }, "of version 5"],
  ["no vectors at all", { custom: "{}" }, "no snapshot of vectors"],
  ["nothing in place of them", { custom: "" }, "no snapshot of vectors"],
  ["keys and vectors", withVector({ unified: true }), "expected vectors only"],
  ["more shards than there may be", { num_dbs: 65_537n }, "at most 65536"],
])("%s is unsupported", (_, meta, message) => {
  expect(() => decode(meta)).toThrow(
    expect.objectContaining({ tag: "Unsupported", message: expect.stringContaining(message) }),
  )
})

test.each([
  ["no shards", { num_dbs: 0n }, [], "num_dbs has 0"],
  ["a run that is a number", { run_id: 1n }, [], "run_id has 1, expected text"],
  ...["run_id", "s3_prefix", "key_col", "db_path_template", "shard_prefix", "sharding", "key_encoding"].map(
    (column): [string, object, object[], string] => [`no ${column}`, { [column]: null }, [], column],
  ),
  ["no version", { format_version: null }, [], "format_version"],
  ["a version of 4.5", { format_version: 4.5 }, [], "format_version"],
  ["no number of shards", { num_dbs: null }, [], "num_dbs"],
  ["a hash that is not told", { sharding: "{}" }, [], "hash_algorithm"],
  [
    "routing values of two types, of keys",
    withSharding({ strategy: "cel", cel_expr: "a", cel_columns: { a: "int" }, routing_values: [1, "a", 2] }),
    [],
    "several types",
  ],
  [
    "a routing value of keys twice",
    withSharding({ strategy: "cel", cel_expr: "a", cel_columns: { a: "int" }, routing_values: [1, 1, 2] }),
    [],
    "twice",
  ],
  [
    "CEL of keys without an expression",
    withSharding({ strategy: "cel", cel_columns: { a: "int" } }),
    [],
    "cel_expr",
  ],
  ["a shard without number", {}, [{ db_id: null }], "db_id"],
  ["a shard below zero", {}, [{ db_id: -1n }], "db_id has -1"],
  ["a negative attempt", {}, [{ attempt: -1n }], "attempt of shard 1"],
  ["negative bytes", {}, [{ db_bytes: -1n }], "db_bytes of shard 1"],
  ["a URL that is a number", {}, [{ db_url: 7n }], "db_url of shard 1"],
  ["a key that is a fraction", {}, [{ max_key: "1.5" }], "max_key"],
  ["a checkpoint that is a number", {}, [{ checkpoint_id: 1n }], "checkpoint_id"],
  ["a writer that is missing", {}, [{ writer_info: null }], "writer_info"],
  ["vectors that are a list", { custom: '{"vector": []}' }, [], "custom.vector"],
  ["a metric that is a number", withVector({ metric: 1 }), [], "metric"],
  ["no time", { created_at: "yesterday" }, [], "created_at"],
  ["an encoding in capitals", { key_encoding: "RAW" }, [], "key_encoding"],
  ["custom that is a list", { custom: "[]" }, [], "custom has a list"],
  ["custom that is no JSON", { custom: "{" }, [], "expected JSON"],
  ["an unknown property of the routing of keys", withSharding({ shards: 1 }), [], 'the property "shards"'],
  ["another hash", withSharding({ hash_algorithm: "md5" }), [], "hash_algorithm"],
  ["a strategy of vectors for keys", withSharding({ strategy: "cluster" }), [], "strategy"],
  ["an expression for a hash", withSharding({ cel_expr: "a" }), [], "cel_expr"],
  [
    "CEL without columns",
    withSharding({ strategy: "cel", cel_expr: "a", cel_columns: {} }),
    [],
    "cel_columns",
  ],
  [
    "routing values that are not one per shard",
    withSharding({ strategy: "cel", cel_expr: "a", cel_columns: { a: "int" }, routing_values: [1] }),
    [],
    "num_dbs has 3, expected 1",
  ],
  ["an empty object of vectors", { custom: '{"vector": {}}' }, [], "an empty object"],
  ["an unknown metric", withVector({ metric: "L2" }), [], "metric"],
  ["an unknown strategy", withVector({ sharding_strategy: "hash" }), [], "sharding_strategy"],
  ["a shard out of range", {}, [{ db_id: 3n }], "db_id has 3, expected 0 to 2"],
  ["a shard twice", {}, [{}, {}], "1 twice"],
  ["more rows than shards", {}, [{ db_id: 0n }, {}, { db_id: 2n }, { db_id: 0n }], "more than 3 rows"],
  ["a negative count", {}, [{ row_count: -1n }], "row_count of shard 1 has -1"],
  ["a key that is a list", {}, [{ min_key: "[]" }], "min_key"],
  ["a writer that is null", {}, [{ writer_info: "null" }], "writer_info"],
  [
    "CEL without an expression",
    withVector({ sharding_strategy: "cel", cel_columns: { a: "int" } }),
    [],
    "cel_expr",
  ],
  [
    "a column of an unknown type",
    withVector({ sharding_strategy: "cel", cel_expr: "a", cel_columns: { a: "int64" } }),
    [],
    "cel_columns.a",
  ],
  [
    "a routing value twice",
    withVector({
      sharding_strategy: "cel",
      cel_expr: "a",
      cel_columns: { a: "string" },
      routing_values: ["a", "b", "a"],
    }),
    [],
    '"a" twice',
  ],
  [
    "routing values of two types",
    withVector({
      sharding_strategy: "cel",
      cel_expr: "a",
      cel_columns: { a: "string" },
      routing_values: ["a", 1],
    }),
    [],
    "several types",
  ],
])("%s is damage", (_, meta, rows, message) => {
  expect(() => decode(meta, rows)).toThrow(
    expect.objectContaining({ tag: "Corrupt", message: expect.stringMatching(/^m: /) }),
  )
  expect(() => decode(meta, rows)).toThrow(message)
})

test("routing values are integers, strings or bytes", () => {
  const values = (routing_values: unknown) =>
    decode({
      ...withVector({ sharding_strategy: "cel", cel_expr: "a", cel_columns: { a: "bytes" }, routing_values }),
    }).vector.cel!.values
  expect(values([1, 2 ** 40])).toEqual([1, 2 ** 40])
  expect(values([{ __bytes_hex__: "00ff" }, { __bytes_hex__: "" }])).toEqual([
    Uint8Array.of(0, 255),
    new Uint8Array(),
  ])
})
