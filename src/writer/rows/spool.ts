/**
 * Sources that are read a second time: what the first reading yields is kept, in the scratch store or in
 * memory.
 */
import type { RecordBatch } from "../../records.js"
import type { ReadOptions, Source } from "../../sources/source.js"
import type { Scratch } from "../scratch.js"
import { appendBlocks, type PackedBatch, packBatch, readBlocks, unpackBatch } from "./batches.js"

/**
 * A source that can be read only once, to be read to its end once and then as often as wanted. The scratch
 * file `name` must not exist yet.
 */
export function spooled(source: Source, scratch: Scratch, name: string): Source {
  let kept = false
  const badRows: Error[] = []
  return {
    name: source.name,
    fields: source.fields,
    repeatable: true,
    async *read(options: ReadOptions): AsyncGenerator<RecordBatch> {
      const report = (error: Error): void => {
        if (options.onBadRow === undefined) throw error
        options.onBadRow(error)
      }
      if (kept) {
        for (const error of badRows) report(error)
        yield* readBlocks(scratch, name)
        return
      }
      const onBadRow = (error: Error): void => {
        report(error)
        badRows.push(error)
      }
      for await (const batch of source.read({ ...options, onBadRow })) {
        await appendBlocks(scratch, name, [batch])
        yield batch
      }
      kept = true
    },
  }
}

/**
 * A repeatable source that need not be decoded twice if it is small: what its first reading yields is kept in
 * memory, if that is `mostBytes` at most and no row is bad, and the next one hands it out and lets it go. All
 * further readings are those of the source. Of an input that says how many rows it has, nothing is kept
 * where its first batch shows that they are too many.
 */
export function remembered(source: Source, mostBytes: number): Source {
  let kept: PackedBatch[] | undefined
  let isFirst = true
  return {
    ...source,
    async *read(options: ReadOptions): AsyncGenerator<RecordBatch> {
      const batches = kept ?? []
      if (kept !== undefined) {
        kept = undefined
        for (let batch = batches.shift(); batch !== undefined; batch = batches.shift())
          yield unpackBatch(batch)
        return
      }
      let keeps = isFirst
      isFirst = false
      const rows = keeps ? await source.countRows?.() : undefined
      const forget = (): void => {
        keeps = false
        batches.length = 0
      }
      const onBadRow = (error: Error): void => {
        forget() // bad rows are reported by each reading
        if (options.onBadRow === undefined) throw error
        options.onBadRow(error)
      }
      let bytes = 0
      for await (const batch of source.read({ ...options, onBadRow })) {
        if (keeps) {
          const packed = packBatch(batch)
          const packedBytes = packed.columns.length + packed.vectors.byteLength
          const isHopeless =
            bytes === 0 && rows !== undefined && (rows / batch.rows) * packedBytes > mostBytes
          bytes += packedBytes
          batches.push(packed)
          if (bytes > mostBytes || isHopeless) forget()
        }
        yield batch
      }
      if (keeps) kept = batches
    },
  }
}
