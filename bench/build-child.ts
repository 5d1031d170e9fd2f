/**
 * Builds a snapshot in a process of its own, so that its peak memory is the build's and nothing else's. Takes
 * a JSON request as its argument, prints a JSON answer.
 */
import {
  type BackendName,
  buildSnapshot,
  type LayoutName,
  openSource,
  type StoreOptions,
} from "../src/index.js"

export interface BuildRequest {
  readonly input: string
  readonly sql?: string
  readonly to: string
  readonly store: StoreOptions
  readonly backend: BackendName
  readonly shards: number
  /** Default: the build's own. */
  readonly layout?: LayoutName
  /** Rows stored / rows, for the layout `affinity`. */
  readonly budget?: number
  readonly memoryLimit?: number
  /** Of k-means. */
  readonly seed?: number
  readonly routingFrom?: string
}

const request: BuildRequest = JSON.parse(process.argv[2]!)
const source = await openSource(
  request.sql === undefined ? [request.input] : [],
  request.sql === undefined ? {} : { sql: request.sql },
)
const report = await buildSnapshot(source, {
  to: request.to,
  store: request.store,
  backend: request.backend,
  sharding: {
    strategy: "cluster",
    shards: request.shards,
    ...(request.layout !== undefined && { layout: request.layout }),
    ...(request.budget !== undefined && { replication: { budget: request.budget } }),
    ...(request.seed !== undefined && { seed: request.seed }),
  },
  ...(request.memoryLimit !== undefined && { memoryLimit: request.memoryLimit }),
  ...(request.routingFrom !== undefined && { routingFrom: request.routingFrom }),
})
// In KiB on Linux; over all threads of the process.
const { maxRSS, userCPUTime, systemCPUTime } = process.resourceUsage()
const peakBytes = maxRSS * 1024
console.log(JSON.stringify({ report, peakBytes, cpuSeconds: (userCPUTime + systemCPUTime) / 1e6 }))
