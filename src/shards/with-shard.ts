/** A shard whose files were copied to the local disk, open for as long as something is done with it. */
import { isVecsnapError, VecsnapError } from "../errors.js"
import type { IndexDescription, ShardPool, ShardReader, ShardSpec } from "./backend.js"
import { localDirectory } from "./source.js"

/**
 * Opens a shard whose files lie in `dir` for the duration of `use`. What is thrown names the shard by its
 * folder in the store.
 */
export async function withShard<T>(
  pool: ShardPool,
  dir: string,
  {
    folder,
    index,
    rows,
  }: { readonly folder: string; readonly index: IndexDescription; readonly rows: number },
  spec: ShardSpec,
  use: (reader: ShardReader) => Promise<T>,
): Promise<T> {
  try {
    const reader = await pool.open(localDirectory(dir), spec, index, rows)
    try {
      return await use(reader)
    } finally {
      await reader.close()
    }
  } catch (error) {
    if (!isVecsnapError(error)) throw error
    throw new VecsnapError(error.tag, error.message.replaceAll(dir, folder), error.details, error)
  }
}
