/**
 * The process that reads shards of roots that are not trusted: a backend's pool, asked by messages.
 */
import { writeFileSync } from "node:fs"
import { Worker } from "node:worker_threads"
import { errorToWire } from "../../errors.js"
import type { StoredRecord } from "../../records.js"
import type { ShardOpener, ShardPool, ShardReader } from "../backend.js"
import { ShardQuery } from "../query.js"
import { allBackends, registerBackend } from "../registry.js"
import { localDirectory } from "../source.js"
import {
  type CallName,
  type NumberedReply,
  type NumberedRequest,
  READY,
  type Reply,
  type Request,
  type Start,
} from "./protocol.js"

let pool: ShardPool
const readers = new Map<number, ShardReader>()
const cursors = new Map<number, Reading>()

/** A reading of all records of a shard, and how many batches it has given. */
interface Reading {
  readonly batches: AsyncIterator<readonly StoredRecord[]>
  given: number
}

process.once("message", (start: Start) => {
  void begin(start)
})
process.on("disconnect", () => process.exit())
// A terminal and some supervisors tell all processes of a group; ours ends when its parent does.
process.on("SIGINT", () => {})
process.on("SIGTERM", () => {})

async function begin({ backend, opener, modules, pool: options, memoryBytes, parent }: Start): Promise<void> {
  new Worker(new URL("./watchdog.js", import.meta.url), { workerData: { memoryBytes, parent } }).unref()
  offerToKernel()
  for (const module of modules) await registerBackend(new URL(module))
  pool = (await findOpener(backend, opener)).createPool(options)
  process.on("message", ({ number, request }: NumberedRequest) => void answer(number, request))
  process.send!(READY)
}

async function findOpener(backend: string, module: string | undefined): Promise<ShardOpener> {
  if (module === undefined) return allBackends().find(({ name }) => name === backend)!
  return ((await import(module)) as { readonly opener: ShardOpener }).opener
}

/** If the machine runs out of memory, this process is to go, not the service. Linux alone has that. */
function offerToKernel(): void {
  try {
    writeFileSync("/proc/self/oom_score_adj", "1000")
  } catch {
    // Then it is as likely as others.
  }
}

async function answer(number: number, request: Request): Promise<void> {
  let reply: NumberedReply
  try {
    reply = { number, value: await handle(request) }
  } catch (error) {
    reply = { number, error: errorToWire(error) }
  }
  process.send!(reply)
}

async function handle(request: Request): Promise<Reply<CallName>> {
  switch (request.call) {
    case "open": {
      const { shard, dir, spec, index, rows } = request
      const reader = await pool.open(localDirectory(dir), spec, index, rows)
      readers.set(shard, reader)
      return { rows: reader.rows, bytes: reader.bytes }
    }
    case "search": {
      const { vector, k, effort } = request
      const answers = await pool.search(
        request.shards.map(readerOf),
        new ShardQuery(vector, k, undefined, effort),
      )
      return answers.map((answer) => ("error" in answer ? { error: errorToWire(answer.error) } : answer))
    }
    case "get":
      return readerOf(request.shard).get(request.ids)
    case "next":
      return next(request.shard, request.cursor, request.skip)
    case "leave": {
      const reading = cursors.get(request.cursor)
      cursors.delete(request.cursor)
      await reading?.batches.return?.()
      return undefined
    }
    case "close": {
      const reader = readers.get(request.shard)
      readers.delete(request.shard)
      await reader?.close()
      return undefined
    }
  }
}

async function next(
  shard: number,
  cursor: number,
  skip: number,
): Promise<readonly StoredRecord[] | undefined> {
  let reading = cursors.get(cursor)
  // It may have gone on elsewhere, in a process that has ended.
  if (reading?.given !== skip) {
    reading = { batches: readerOf(shard).records()[Symbol.asyncIterator](), given: skip }
    cursors.set(cursor, reading)
    for (let batch = 0; batch < skip; batch++) await reading.batches.next()
  }
  const result = await reading.batches.next()
  reading.given++
  if (!result.done) return result.value
  cursors.delete(cursor)
  return undefined
}

function readerOf(shard: number): ShardReader {
  const reader = readers.get(shard)
  if (reader === undefined) throw new Error(`no shard has the number ${shard} in this process`)
  return reader
}
