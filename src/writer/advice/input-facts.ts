/** What can be known of an input without building it: how many rows, and a sample of them. */
import type { RecordBatch } from "../../records.js"
import type { ReadOptions, Source } from "../../sources/source.js"
import { noRows } from "../rows/valid-rows.js"

export interface InputFacts {
  /** As {@link Source.name}. */
  readonly name: string
  readonly rows: number
  /** Where the number of rows is from: what the files say of themselves, or a reading of them. */
  readonly counted: "metadata" | "read"
  readonly dim: number
  readonly sampledRows: number
  /** Lengths of the sampled vectors. */
  readonly norms: { readonly smallest: number; readonly mean: number; readonly largest: number }
  /** Bytes of id, fields and payload, average of the sample. */
  readonly otherBytesPerRow: number
}

/** Rows that are looked at, from the first on. */
const SAMPLE_ROWS = 10_000
const NUMBER_BYTES = 8

/**
 * Looks at the first 10,000 rows, and reads the rest only if the files do not say how many there are. Throws
 * `InvalidInput` without rows, or for a bad row among those read, unless `onBadRow` takes it.
 */
export async function readInputFacts(source: Source, options: ReadOptions = {}): Promise<InputFacts> {
  const known = await source.countRows?.()
  const { norms, add } = createNorms()
  let rows = 0
  let sampledRows = 0
  let dim: number | undefined
  let otherBytes = 0
  for await (const batch of source.read(options)) {
    dim ??= batch.dim
    rows += batch.rows
    const taken = Math.min(batch.rows, SAMPLE_ROWS - sampledRows)
    for (let row = 0; row < taken; row++) {
      add(batch.vectors.subarray(row * batch.dim, (row + 1) * batch.dim))
      otherBytes += bytesOf(batch, row)
    }
    sampledRows += taken
    if (known !== undefined && sampledRows >= SAMPLE_ROWS) break
  }
  if (dim === undefined) throw noRows()
  return {
    name: source.name,
    rows: known ?? rows,
    counted: known === undefined ? "read" : "metadata",
    dim,
    sampledRows,
    norms: norms(sampledRows),
    otherBytesPerRow: otherBytes / sampledRows,
  }
}

function createNorms() {
  let [smallest, largest, sum] = [Infinity, 0, 0]
  return {
    add(vector: Float32Array): void {
      const norm = Math.sqrt(vector.reduce((squares, element) => squares + element * element, 0))
      smallest = Math.min(smallest, norm)
      largest = Math.max(largest, norm)
      sum += norm
    },
    norms: (count: number) => ({ smallest, mean: sum / count, largest }),
  }
}

/** Of id, fields and payload. Text is counted in UTF-16 units, which is close enough. */
function bytesOf({ ids, fields, payloads }: RecordBatch, row: number): number {
  const size = (value: unknown): number => (typeof value === "string" ? value.length : NUMBER_BYTES)
  const ofFields = Object.values(fields).reduce((sum, column) => sum + size(column[row]), 0)
  return size(ids.values[row]) + ofFields + (payloads[row]?.length ?? 0)
}
