import type { FieldType, VectorRecord, RecordBatch } from "../../records.js"
import { stringifyJson } from "../../json.js"
import type { Source } from "./source.js"
export function recordsSource(input: Iterable<VectorRecord> | AsyncIterable<VectorRecord>, o: { fields: Readonly<Record<string, FieldType>> }): Source {
  const fields = Object.entries(o.fields).map(([name, type]) => ({ name, type }))
  return { name: "records", repeatable: Array.isArray(input), fields,
    async *read() {
      const all: VectorRecord[] = []
      for await (const r of input) all.push(r)
      for (let i = 0; i < all.length; i += 1000) {
        const part = all.slice(i, i + 1000)
        const dim = part[0]!.vector.length
        const b: RecordBatch = { rows: part.length, dim,
          ids: typeof part[0]!.id === "string" ? { type: "string", values: part.map((r) => r.id as string) } : { type: "int64", values: BigInt64Array.from(part, (r) => BigInt(r.id)) },
          vectors: Float32Array.from(part.flatMap((r) => Array.from(r.vector))),
          fields: Object.fromEntries(fields.map(({ name, type }) => [name, part.map((r) => { const v = r.fields?.[name] ?? null; return type === "int64" && v !== null ? BigInt(v as number) : v })])),
          payloads: part.map((r) => r.payload == null ? null : stringifyJson(r.payload)),
          shards: Int32Array.from(part, (r) => r.shard ?? 0),
          origin: { file: "records", rows: Float64Array.from(part, (_, j) => i + j + 1) } }
        yield b
      }
    } }
}
