import { sha256OfBytes } from "../../storage/checksum.js"
import { CODED_ROWS_MIN } from "../../vectors/cells/shard.js"
import type { ShardBackend } from "../backend.js"
import { resolveIndexOptions } from "../options.js"
import { buildShard } from "./build.js"
import { bytesPerRow } from "./cells.js"
import { checkCells } from "./check.js"
import { loadSqlite, loadSqliteVec } from "./packages.js"
import { createPool } from "./pool.js"
import { withRanges } from "./ranged/pool.js"
import { CELLS, CELLS_FILE, DIM_MAX, shardFile, VERSION_BY_CELL } from "./schema.js"

/**
 * Shards as SQLite databases with a sqlite-vec table; exact. Building needs better-sqlite3 and sqlite-vec,
 * opening needs better-sqlite3 only.
 */
export const sqliteVecBackend: ShardBackend<"sqlite-vec"> = {
  name: "sqlite-vec",
  traits: { exact: true, filters: false, text: false, ranges: true },
  limits: { dim: DIM_MAX },
  figures: {
    vectorCopies: 1,
    cellBytes: bytesPerRow,
    // Scanned in 20 ms, at 10 GB/s.
    vectorBytes: 200 * 2 ** 20,
  },
  knowsFile: (name) => name === shardFile(".") || name === CELLS_FILE,
  cellsFile: CELLS_FILE,
  shapedBy: ({ rows, home }, { codes }) => ({
    order: VERSION_BY_CELL,
    home: home === undefined ? null : sha256OfBytes(home),
    codes: codes !== undefined && rows >= CODED_ROWS_MIN ? Buffer.from(codes.sha256).toString("hex") : null,
  }),
  requires: ({ kind }) => (kind === CELLS ? ["rows-by-cell"] : []),
  codedRows: CODED_ROWS_MIN,
  check: checkCells,
  options: {},
  async assertInstalled(purpose) {
    await loadSqlite()
    if (purpose === "build") await loadSqliteVec()
  },
  async build(rows, dir, spec, options) {
    resolveIndexOptions("sqlite-vec", {}, options)
    return buildShard(rows, dir, spec)
  },
  createPool: (options) => withRanges(createPool(options)),
}
