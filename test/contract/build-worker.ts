/** Builds one shard in a worker thread, as the writer does. */
import { parentPort, workerData } from "node:worker_threads"
import type { ShardRows, ShardSpec } from "../../src/shards/backend.js"
import { type BackendName, backendByName, registerInherited } from "../../src/shards/registry.js"

const { backend, rows, dir, spec } = workerData as {
  readonly backend: BackendName
  readonly rows: ShardRows
  readonly dir: string
  readonly spec: ShardSpec
}
await registerInherited()
parentPort?.postMessage(await backendByName(backend).build(rows, dir, spec))
