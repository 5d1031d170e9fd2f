import { openShardFile as openReal } from "../../src/shards/sqlite-vec/open.js"

/** Opens shards, but for those in a folder called `stuck`, whose file is never read to its end. */
export const openShardFile: typeof openReal = (Sqlite, file, spec, rows) => {
  if (file.includes("/stuck/")) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)
  return openReal(Sqlite, file, spec, rows)
}
