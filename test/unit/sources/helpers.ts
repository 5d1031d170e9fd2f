import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll } from "vitest"
import { isVecsnapError, type VecsnapError } from "../../../src/errors.js"
import type { FieldValue, RecordBatch } from "../../../src/records.js"
import { openSource, type SourceOptions } from "../../../src/sources/open.js"
import type { ReadOptions, Source } from "../../../src/sources/source.js"
import { fromRoot } from "../../support/paths.js"

/** A small file as some tool wrote it, see test/fixtures/inputs. */
export const inputFixture = (name: string): string => fromRoot(`test/fixtures/inputs/${name}`)

/** All rows of a source, in plain values. */
export interface Rows {
  readonly ids: (string | bigint)[]
  readonly vectors: number[][]
  readonly fields: Record<string, FieldValue>[]
  readonly payloads: (string | null)[]
  readonly rowNumbers: number[]
  readonly files: string[]
  readonly shards: number[] | undefined
}

export async function readAll(source: Source, options: ReadOptions = {}): Promise<Rows> {
  const batches: RecordBatch[] = []
  for await (const batch of source.read(options)) batches.push(batch)
  return {
    ids: batches.flatMap(({ ids }) => [...ids.values] as (string | bigint)[]),
    vectors: batches.flatMap(({ rows, dim, vectors }) =>
      Array.from({ length: rows }, (_, row) => [...vectors.subarray(row * dim, (row + 1) * dim)]),
    ),
    fields: batches.flatMap(({ rows, fields }) =>
      Array.from({ length: rows }, (_, row) =>
        Object.fromEntries(Object.entries(fields).map(([name, column]) => [name, column[row]!])),
      ),
    ),
    payloads: batches.flatMap(({ payloads }) => payloads),
    rowNumbers: batches.flatMap(({ origin }) => [...origin.rows]),
    files: [...new Set(batches.map(({ origin }) => origin.file))],
    shards: batches.every(({ shards }) => shards === undefined)
      ? undefined
      : batches.flatMap(({ shards }) => [...shards!]),
  }
}

/** Opens and reads. */
export const readInputs = async (
  inputs: string | readonly string[],
  options?: SourceOptions,
  read?: ReadOptions,
): Promise<Rows> => readAll(await openSource(inputs, options), read)

/** Reads and leaves bad rows out; gives the messages of these. */
export async function readSkipping(source: Source): Promise<Rows & { readonly bad: readonly string[] }> {
  const bad: string[] = []
  const rows = await readAll(source, { onBadRow: (error) => bad.push(error.message) })
  return { ...rows, bad }
}

/** The error of ours that `promise` rejects with. */
export async function failureOf(promise: Promise<unknown>): Promise<VecsnapError> {
  const error: unknown = await promise.then(
    () => undefined,
    (cause: unknown) => cause,
  )
  if (!isVecsnapError(error)) throw new Error(`expected a VecsnapError, got ${String(error)}`)
  return error
}

/** A directory for the tests of one file, and a function to write into it. */
export function useDirectory(): {
  path(name: string): string
  write(name: string, content: string | Uint8Array): Promise<string>
} {
  let dir = ""
  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), "vecsnap-sources-"))
  })
  afterAll(() => rm(dir, { recursive: true, force: true }))
  const path = (name: string) => join(dir, name)
  return {
    path,
    async write(name, content) {
      await writeFile(path(name), content)
      return path(name)
    },
  }
}

/** Runs SQL in a fresh DuckDB, to write files. */
export async function runSql(sql: string): Promise<void> {
  // Not at the top, for the test that runs without the package.
  const { DuckDBInstance } = await import("@duckdb/node-api")
  const instance = await DuckDBInstance.create(":memory:")
  const connection = await instance.connect()
  try {
    await connection.run(sql)
  } finally {
    connection.closeSync()
    instance.closeSync()
  }
}
