import type { ShardBackend } from "../backend.js"
import { buildShard } from "./build.js"
import { loadArrow, loadLanceDb } from "./packages.js"
import { createPool } from "./pool.js"

/** Shards as LanceDB tables with an IVF_FLAT index; exact up to 50,000 rows. Building needs apache-arrow too. */
export const lancedbBackend: ShardBackend = {
  name: "lancedb",
  async assertInstalled(purpose) {
    await loadLanceDb()
    if (purpose === "build") await loadArrow()
  },
  build: (rows, dir, spec) => buildShard(rows, dir, spec),
  createPool,
}
