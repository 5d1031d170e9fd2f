/** What a shard of sqlite-vec says of its vectors, which counts where the manifest says otherwise. Pure. */
import { corrupt, unsupported } from "../../../errors.js"
import type { Metric } from "../../../vectors/metric.js"
import { quoted } from "../../../wording.js"

export interface VectorDeclaration {
  readonly dim: number
  readonly metric: Metric
}

/** The one virtual table of a shard. */
export const SELECT_DECLARATION = "SELECT sql FROM sqlite_schema WHERE name = 'vec_index'"

const DECLARATION =
  /^\s*CREATE\s+VIRTUAL\s+TABLE\s+(?:IF\s+NOT\s+EXISTS\s+)?["`[]?vec_index["`\]]?\s+USING\s+vec0\s*\(([^()]*)\)\s*$/i
const VECTORS =
  /^\s*["`[]?embedding["`\]]?\s+float(?:32)?\s*\[\s*(\d{1,6})\s*\](?:\s+distance_metric\s*=\s*(\w+))?\s*$/i

/**
 * From the statement that made the table. Throws `Corrupt`, naming `file`; `Unsupported` for other metrics.
 */
export function parseDeclaration(sql: unknown, file: string): VectorDeclaration {
  const columns = DECLARATION.exec(typeof sql === "string" ? sql : "")?.[1]?.split(",")
  const vectors = columns?.map((column) => VECTORS.exec(column)).find((match) => match !== null)
  if (vectors === undefined) {
    const found = typeof sql === "string" ? quoted(sql) : "none"
    throw corrupt(`${file}: expected a vec0 table vec_index with a column embedding, found ${found}`, {
      file,
    })
  }
  // What sqlite-vec takes if nothing is said.
  const metric = vectors[2]?.toLowerCase() ?? "l2"
  if (metric !== "cosine" && metric !== "l2")
    throw unsupported(`${file} has the metric ${metric}, expected cosine or l2`, { file, metric })
  return { dim: Number(vectors[1]), metric }
}
