/** Rows as Arrow batches, which is what the peer takes. */
import {
  Field,
  FixedSizeList,
  Float32,
  makeData,
  RecordBatch,
  Schema,
  Struct,
  Utf8,
  vectorFromArray,
} from "apache-arrow"

/** Rows of `id` and `vector`, `ids.length × dim`, which are not copied. */
export function toArrow(ids: readonly string[], vectors: Float32Array, dim: number): RecordBatch {
  const list = new FixedSizeList(dim, new Field("item", new Float32(), true))
  const schema = new Schema([new Field("id", new Utf8(), false), new Field("vector", list, false)])
  const floats = makeData({ type: new Float32(), length: vectors.length, nullCount: 0, data: vectors })
  const children = [
    vectorFromArray(ids, new Utf8()).data[0]!,
    makeData({ type: list, length: ids.length, nullCount: 0, child: floats }),
  ]
  const struct = makeData({ type: new Struct(schema.fields), length: ids.length, nullCount: 0, children })
  return new RecordBatch(schema, struct)
}
