/**
 * Builds a shard of LanceDB that the Python reader searches exactly. It asks without a metric, so that an
 * index must carry it: IVF_FLAT with one partition, which compares all vectors. Written in the oldest format
 * of files that is still read everywhere.
 */
import type { Schema } from "apache-arrow"
import { unavailable, unsupported } from "../../../errors.js"
import type { ShardRows, ShardSpec } from "../../../shards/backend.js"
import { checkEmptyDirectory } from "../../../shards/checks.js"
import { type Arrow, loadArrow, loadLanceDb } from "../../../shards/lancedb/packages.js"
import { LENGTH_MAX, LENGTH_MIN } from "../../../shards/lancedb/schema.js"
import { inverseNorms } from "../../../vectors/distance.js"
import { ID_TYPE, TABLE } from "../shards/lancedb.js"

const DATA_FORMAT = { new_table_data_storage_version: "2.0" }
const INDEX = "vector_idx"
const INDEX_TIMEOUT_SECONDS = 24 * 3600
/** Vectors handed to LanceDB at once. */
const BATCH_BYTES = 64 * 2 ** 20

/**
 * Throws `Unsupported` for vectors whose length LanceDB cannot handle, `Unavailable` if the index does not
 * cover all rows.
 */
export async function buildLanceDb(rows: ShardRows, dir: string, spec: ShardSpec): Promise<void> {
  checkLengths(rows, spec)
  await checkEmptyDirectory(dir)
  const lancedb = await loadLanceDb()
  const arrow = await loadArrow()
  const { dim, metric } = spec
  const schema = schemaOf(arrow, dim)
  const connection = await lancedb.connect(dir, { storageOptions: DATA_FORMAT })
  try {
    const table = await connection.createEmptyTable(TABLE, schema, { storageOptions: DATA_FORMAT })
    const batchRows = Math.max(1, Math.floor(BATCH_BYTES / (dim * 4)))
    for (let start = 0; start < rows.rows; start += batchRows) {
      const end = Math.min(start + batchRows, rows.rows)
      await table.add(new arrow.Table([batchOf(arrow, schema, rows, dim, start, end)]))
    }
    await table.createIndex("vector", {
      config: lancedb.Index.ivfFlat({ numPartitions: 1, distanceType: metric }),
      name: INDEX,
      replace: false,
      waitTimeoutSeconds: INDEX_TIMEOUT_SECONDS,
    })
    const stats = await table.indexStats(INDEX)
    if (stats?.numIndexedRows !== rows.rows || stats.numUnindexedRows !== 0) {
      throw unavailable(
        `${dir}: the index has ${stats?.numIndexedRows ?? "none"} of ${rows.rows} rows, expected all`,
        { dir },
      )
    }
    table.close()
  } finally {
    connection.close()
  }
}

function schemaOf(arrow: Arrow, dim: number): Schema {
  const text = (name: string) => new arrow.Field(name, new arrow.Utf8(), true)
  return new arrow.Schema([
    text("id"),
    new arrow.Field("vector", vectorType(arrow, dim), true),
    text("payload"),
    text(ID_TYPE),
  ])
}

const vectorType = (arrow: Arrow, dim: number) =>
  new arrow.FixedSizeList(dim, new arrow.Field("item", new arrow.Float32(), true))

function batchOf(arrow: Arrow, schema: Schema, rows: ShardRows, dim: number, start: number, end: number) {
  const length = end - start
  const text = (values: readonly (string | null)[]) =>
    arrow.vectorFromArray(values, new arrow.Utf8()).data[0]!
  const ids = Array.from({ length }, (_, i) => rows.ids.values[start + i]!)
  const floats = arrow.makeData({
    type: new arrow.Float32(),
    length: length * dim,
    nullCount: 0,
    data: rows.vectors.subarray(start * dim, end * dim),
  })
  const children = [
    text(ids.map(String)),
    arrow.makeData({ type: vectorType(arrow, dim), length, nullCount: 0, child: floats }),
    text(rows.payloads.slice(start, end)),
    text(ids.map((id) => (typeof id === "string" ? "str" : "int"))),
  ]
  const struct = arrow.makeData({ type: new arrow.Struct(schema.fields), length, nullCount: 0, children })
  return new arrow.RecordBatch(schema, struct)
}

function checkLengths({ ids, vectors }: ShardRows, { dim, metric }: ShardSpec): void {
  inverseNorms(vectors, dim).forEach((inverse, row) => {
    const length = inverse === 0 ? 0 : 1 / inverse
    if (length <= LENGTH_MAX && (metric !== "cosine" || length >= LENGTH_MIN)) return
    throw unsupported(
      `lancedb cannot index the vector of record ${JSON.stringify(String(ids.values[row]))}: its length is ${length}, ` +
        `expected ${LENGTH_MIN} to ${LENGTH_MAX}; scale the vectors or use sqlite-vec`,
      { length },
    )
  })
}
