/** A source that can be read only once, made repeatable: what its first reading yields is kept on local disk. */
import type { RecordBatch } from "../records.js"
import { appendBlocks, readBlocks } from "./batches.js"
import type { ReadOptions, Source } from "./sources/source.js"

/** The same source, to be read to its end once and then as often as wanted. `path` must not exist yet. */
export function spooled(source: Source, path: string): Source {
  let kept = false
  return {
    name: source.name,
    fields: source.fields,
    repeatable: true,
    async *read(options: ReadOptions): AsyncGenerator<RecordBatch> {
      if (kept) {
        yield* readBlocks(path)
        return
      }
      for await (const batch of source.read(options)) {
        await appendBlocks(path, [batch])
        yield batch
      }
      kept = true
    },
  }
}
