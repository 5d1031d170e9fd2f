/**
 * A file with the rows of another one many times, each time moved a little: a larger input of the same kind.
 */
import { DuckDBInstance } from "@duckdb/node-api"

/** How far a component is moved at most; components of the word set are about .4 in size. */
const JITTER = 0.1

/**
 * Writes a Parquet file with `times` times the rows of `input` (columns `id`, text, and `vector`). The first
 * time they are as they were; later ids have `~1`, `~2` … behind them and each component is moved by a hash
 * of id, time and place. Streams: memory does not grow with the rows.
 */
export async function writeJittered(input: string, times: number, output: string): Promise<void> {
  const instance = await DuckDBInstance.create(":memory:", { memory_limit: "1GB" })
  const connection = await instance.connect()
  try {
    const quoted = (path: string): string => `'${path.replaceAll("'", "''")}'`
    const noise = `${JITTER} * (hash(id, time, place) % 65536 / 32768.0 - 1)`
    await connection.run(`
      copy (
        select
          case when time = 0 then id else id || '~' || time end as id,
          case when time = 0 then vector::float[] else
            list_transform(vector, (value, place) -> (value + ${noise})::float)
          end as vector
        from (select unnest(range(${times})) as time), ${quoted(input)}
      ) to ${quoted(output)} (format parquet, row_group_size 16384)`)
  } finally {
    connection.closeSync()
    instance.closeSync()
  }
}
