/** The rows of a source that a snapshot can hold. */
import { invalidInput } from "../../errors.js"
import { type RecordBatch, rowPlace } from "../../records.js"
import type { Source } from "../../sources/source.js"
import type { Metric } from "../../vectors/metric.js"
import { findBadRows } from "../../vectors/validate.js"
import type { BadRows } from "./bad-rows.js"
import { takeRows } from "./batches.js"

export const noRows = (): Error => invalidInput("the input has no rows, so there is nothing to build")

/** The rows of a source that can be stored under the metric; the others are reported as bad. */
export async function* validRows(
  source: Source,
  metric: Metric,
  badRows: BadRows,
  signal: AbortSignal | undefined,
): AsyncGenerator<RecordBatch> {
  for await (const batch of source.read({ signal, onBadRow: badRows.report })) {
    const bad = findBadRows(batch.vectors, batch.dim, metric)
    for (const { row, problem } of bad) {
      const { file, rows } = batch.origin
      badRows.report(
        invalidInput(`${rowPlace(batch.origin, row)}: the vector ${problem}`, { file, row: rows[row] }),
      )
    }
    if (bad.length === 0) yield batch
    else if (bad.length < batch.rows) {
      const left = new Set(bad.map(({ row }) => row))
      yield takeRows(
        batch,
        [...Array(batch.rows).keys()].filter((row) => !left.has(row)),
      )
    }
  }
}
