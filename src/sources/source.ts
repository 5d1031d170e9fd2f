/**
 * The source contract: where a build reads its records from.
 */
import type { FieldType, RecordBatch } from "../records.js"

export interface Source {
  /** For messages: "words.parquet", "3 files", "standard input", "records". */
  readonly name: string
  /**
   * Whether `read` may be called again and then yields the same rows. If not, the writer spools it to disk.
   */
  readonly repeatable: boolean
  /** Declared fields, in order. */
  readonly fields: readonly { readonly name: string; readonly type: FieldType }[]
  /**
   * What the name of the input would not let one expect, such as files that were left out; a sentence each.
   */
  readonly notes?: readonly string[]
  /**
   * How many rows the files say they have, bad ones included, without a reading of them; `undefined` or
   * absent where they do not say.
   */
  countRows?(): Promise<number | undefined>
  /**
   * The rows, validated: one id type, one dimension, finite values. Batches have some 100 to 10,000 rows. A
   * bad row throws `InvalidInput` naming file, row, column, the value found and what was expected, or is
   * passed to `onBadRow`, which may throw to end the build, and left out.
   */
  read(options: ReadOptions): AsyncIterable<RecordBatch>
}

export interface ReadOptions {
  readonly signal?: AbortSignal | undefined
  /**
   * The dimension that vectors are to have, where it is known: that of the snapshot that a build replaces.
   * Vectors that come as bytes are read by it; others are not checked against it.
   */
  readonly dim?: number | undefined
  /** Called for every bad row instead of throwing. */
  readonly onBadRow?: ((error: Error) => void) | undefined
  /**
   * Called once, before the first batch, with what the columns are taken for, where the input has columns.
   */
  readonly onColumns?: ((columns: SourceColumns) => void) | undefined
}

/** What the columns of an input are taken for, by what was asked for, else by their names and types. */
export interface SourceColumns {
  readonly id: string
  readonly vector: string
  /**
   * Names of those that make up the payload; where each row has its own (JSON Lines), those of the first
   * rows.
   */
  readonly payload: readonly string[]
  /** Those of the payload that look like vectors too, and were not asked for: they take room as text. */
  readonly payloadVectors: readonly string[]
}

/** A source whose vectors are to have this dimension, unless a reading says otherwise. */
export function expectingDim(source: Source, dim: number | undefined): Source {
  const { name, repeatable, fields } = source
  return {
    name,
    repeatable,
    fields,
    ...(source.countRows && { countRows: () => source.countRows!() }),
    read: (options) => source.read({ dim, ...options }),
  }
}
