/**
 * The worker thread: holds open shards by handle and answers batches of requests, each with one message.
 */
import { parentPort, workerData } from "node:worker_threads"
import { errorToWire } from "../../errors.js"
import { getRecords, readRows } from "./get.js"
import type { OpenShard, openShardFile as OpenShardFile } from "./open.js"
import { loadSqlite } from "./packages.js"
import type { CallName, NumberedReply, NumberedRequest, Reply, Request, WorkerData } from "./protocol.js"
import { searchEach, searchShards } from "./search.js"

const port = parentPort
if (port === null) throw new Error("this module runs in a worker thread only")

const { files } = workerData as WorkerData
const { openShardFile } = (await import(files)) as { readonly openShardFile: typeof OpenShardFile }
const Sqlite = await loadSqlite()
const shards = new Map<number, OpenShard>()

port.on("message", (requests: readonly NumberedRequest[]) => {
  port.postMessage(requests.map(answer))
})

function answer({ number, request }: NumberedRequest): NumberedReply {
  try {
    return { number, value: handle(request) }
  } catch (error) {
    return { number, error: errorToWire(error) }
  }
}

function handle(request: Request): Reply<CallName> {
  if (request.call === "open") {
    const opened = openShardFile(Sqlite, request.file, request.spec, request.rows)
    shards.set(request.handle, opened)
    return { rows: opened.rows }
  }
  if (request.call === "search") {
    const { query, k } = request
    if (request.each) return searchEach(request.handles, openShard, query, k)
    try {
      return searchShards(request.handles.map(openShard), query, k)
    } catch {
      // Those that are sound still answer, each by itself.
      return searchEach(request.handles, openShard, query, k)
    }
  }
  const shard = openShard(request.handle)
  switch (request.call) {
    case "load":
      shard.load()
      return undefined
    case "get":
      return getRecords(shard, request.ids)
    case "read":
      return readRows(shard, request.first, request.count)
    case "close":
      shards.delete(request.handle)
      shard.close()
      return undefined
  }
}

function openShard(handle: number): OpenShard {
  const shard = shards.get(handle)
  if (shard === undefined) throw new Error(`no shard has the handle ${handle} in this worker`)
  return shard
}
