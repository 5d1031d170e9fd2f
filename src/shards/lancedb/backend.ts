import type { ShardBackend } from "../backend.js"
import { buildShard, INDEX_OPTIONS } from "./build.js"
import { loadArrow, loadLanceDb } from "./packages.js"
import { createPool } from "./pool.js"

/** Shards as LanceDB tables with an IVF_FLAT index; exact up to 50,000 rows. Building needs apache-arrow too. */
export const lancedbBackend: ShardBackend<"lancedb"> = {
  name: "lancedb",
  traits: { exact: false, filters: false, text: false, ranges: false },
  limits: { dim: Number.POSITIVE_INFINITY },
  figures: {
    // Once as rows and once in the index.
    vectorCopies: 2,
    vectorBytes: Number.POSITIVE_INFINITY,
  },
  options: INDEX_OPTIONS,
  async assertInstalled(purpose) {
    await loadLanceDb()
    if (purpose === "build") await loadArrow()
  },
  build: buildShard,
  createPool,
}
