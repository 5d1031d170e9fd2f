import { type BackendName, registerBackend } from "../../src/shards/registry.js"
import { ALL } from "../support/scope.js"
import { describeShards } from "./shard-suite.js"

await registerBackend(new URL("../support/memory-array.js", import.meta.url))

const SQLITE = { backend: "sqlite-vec", largest: 3.4028235e38, shortest: 1e-45 } as const
const LANCE = { backend: "lancedb", largest: 9e14, shortest: 1.1e-15 } as const

describeShards("sqlite-vec, vectors in memory", { ...SQLITE, pool: { workers: 2 } })
describeShards("sqlite-vec, vectors read from the file", { ...SQLITE, pool: { workers: 1, memoryBytes: 0 } })
describeShards("sqlite-vec, away", { ...SQLITE, pool: { workers: 1 }, isAway: true })
describeShards("lancedb", { ...LANCE, pool: {} })
if (ALL) {
  describeShards("lancedb, nothing cached", { ...LANCE, pool: { memoryBytes: 0 } })
  describeShards("sqlite-vec, in a process of its own", {
    ...SQLITE,
    pool: { workers: 2 },
    trust: "untrusted",
  })
  describeShards("lancedb, in a process of its own", { ...LANCE, pool: {}, trust: "untrusted" })
}

const THIRD = { backend: "memory-array" as BackendName, largest: 3.4028235e38, shortest: 1e-45 } as const
describeShards("a backend that tests register", { ...THIRD, pool: {} })
