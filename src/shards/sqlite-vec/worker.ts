/**
 * The worker thread: answers batches of requests, each with one message.
 */
import { parentPort, workerData } from "node:worker_threads"
import { errorToWire } from "../../errors.js"
import { CellSearch } from "./cell-search.js"
import { getRecords, readRows } from "./get.js"
import type { openShardFile as OpenShardFile } from "./open.js"
import { loadSqlite } from "./packages.js"
import type {
  CallName,
  Message,
  NumberedReply,
  NumberedRequest,
  OpenedShard,
  Reply,
  Request,
  SearchRequest,
  WorkerData,
} from "./protocol.js"
import { type Answers, searchEach, searchShards } from "./search.js"
import { WorkerMemory, type WorkerShard } from "./worker-memory.js"

const port = parentPort
if (port === null) throw new Error("this module runs in a worker thread only")

const { files, openMax } = workerData as WorkerData
const { openShardFile } = (await import(files)) as { readonly openShardFile: typeof OpenShardFile }
const Sqlite = await loadSqlite()
const memory = new WorkerMemory(({ file, spec, rows }) => openShardFile(Sqlite, file, spec, rows), openMax)
const cellSearch = new CellSearch(memory)

port.on("message", ({ news, requests }: Message) => {
  if (news !== undefined) memory.tell(news)
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
  if (request.call === "search") return search(request)
  if (request.call === "close") {
    memory.close(request.handle)
    return undefined
  }
  const shard = memory.shard(request.handle)
  switch (request.call) {
    case "open":
      return opened(shard)
    case "load":
      return shard.load(request)
    case "get":
      return getRecords(shard, request.ids)
    case "read":
      return readRows(shard, request.first, request.count)
  }
}

function opened({ open }: WorkerShard): OpenedShard {
  const { rows, cells, spec } = open
  const isCoded = cells?.coded !== undefined && spec.codes !== undefined
  return { rows, cells: isCoded ? { bytes: cells.bytes.length, count: cells.starts.length - 1 } : undefined }
}

function search(request: SearchRequest): Answers {
  const { handles, each } = request
  memory.setScratches(request.scratches)
  if (!each) {
    try {
      return searchTogether(handles, request)
    } catch {
      // Those that are sound still answer, each by itself.
    }
  }
  return searchEach(handles, (handle) => searchTogether([handle], request))
}

function searchTogether(handles: readonly number[], request: SearchRequest): Answers {
  const { query, k, effort } = request
  const shards = handles.map((handle) => memory.shard(handle))
  const others = effort && cellSearch.find(shards, request, effort)
  return searchShards(shards, query, k, others)
}
