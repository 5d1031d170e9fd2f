import type { ShardBackend } from "../backend.js"
import { buildShard, INDEX_OPTIONS } from "./build.js"
import { loadArrow, loadLanceDb } from "./packages.js"
import { createPool } from "./pool.js"
import { TABLE } from "./schema.js"

/** Manifests of versions, data, deleted rows and indexes: what a manifest of Lance leads to, and no more. */
const SHARD_FILE = new RegExp(
  `^${TABLE}\\.lance/(_versions/(\\d{20}\\.manifest|latest_version_hint\\.json)|data/[0-9A-Za-z][0-9A-Za-z_-]*\\.lance|` +
    `_deletions/[0-9-]+\\.(arrow|bin)|_indices/[0-9a-f-]{36}/[a-z][a-z_]*\\.(idx|lance))$`,
)

/**
 * Shards as LanceDB tables with an IVF_FLAT index; exact up to 50,000 rows. Building needs apache-arrow too.
 */
export const lancedbBackend: ShardBackend<"lancedb"> = {
  name: "lancedb",
  traits: { exact: false, filters: false, text: false, ranges: false },
  limits: { dim: Number.POSITIVE_INFINITY },
  figures: {
    // Once as rows and once in the index.
    vectorCopies: 2,
    vectorBytes: Number.POSITIVE_INFINITY,
  },
  knowsFile: (name) => SHARD_FILE.test(name),
  options: INDEX_OPTIONS,
  async assertInstalled(purpose) {
    await loadLanceDb()
    if (purpose === "build") await loadArrow()
  },
  build: buildShard,
  createPool,
}
