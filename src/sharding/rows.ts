import type { RecordBatch } from "../records.js"

/** Where a row of a batch came from, for messages: "words.parquet row 17". */
export function rowPlace(batch: RecordBatch, row: number): string {
  return `${batch.origin.file} row ${batch.origin.rows[row]}`
}
