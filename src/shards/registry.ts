import type { BackendName, ShardBackend } from "./backend.js"
import { lancedbBackend } from "./lancedb/backend.js"
import { sqliteVecBackend } from "./sqlite-vec/backend.js"

const BACKENDS: Readonly<Record<BackendName, ShardBackend>> = {
  "sqlite-vec": sqliteVecBackend,
  lancedb: lancedbBackend,
}

/** The backend of this name. Its native packages are loaded when they are first needed. */
export function backendByName(name: BackendName): ShardBackend {
  return BACKENDS[name]
}
