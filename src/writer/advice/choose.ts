/**
 * Settings for a build that was given none: chosen by a look at its input, as `planSnapshot` proposes them.
 */
import { availableParallelism } from "node:os"
import type { ClusterOptions } from "../../sharding/cluster/options.js"
import { DEFAULT_STRATEGY } from "../../sharding/registry.js"
import { allBackends, type BackendName, backendByName } from "../../shards/registry.js"
import type { Source, SourceColumns } from "../../sources/source.js"
import type { Metric } from "../../vectors/metric.js"
import { readInputFacts } from "./input-facts.js"
import { planSnapshot, type SnapshotPlan } from "./plan.js"

export interface ChooseOptions {
  /** Default "cosine". */
  readonly metric?: Metric | undefined
  /** Default: the one that the plan proposes, or another one if its package is not installed. */
  readonly backend?: BackendName | undefined
  /** As for a build, with its default. */
  readonly memoryLimit?: number | undefined
  /** As for a build; default: the number of cores. */
  readonly parallelism?: number | undefined
  /**
   * The dimension that vectors are to have, where it is known: that of the snapshot that is replaced. Vectors
   * that come as bytes are read by it.
   */
  readonly dim?: number | undefined
  /** Bad rows are left out of what is looked at, or throw (default). */
  readonly onBadRow?: "fail" | "skip" | undefined
  readonly signal?: AbortSignal | undefined
}

export interface ChosenSettings {
  readonly sharding: ClusterOptions
  readonly backend: BackendName
  readonly plan: SnapshotPlan
  /** What the columns of the input are taken for; `undefined` for records in memory. */
  readonly columns: SourceColumns | undefined
}

/**
 * The strategy `cluster`, with as many shards as `planSnapshot` proposes for the rows and dimension of the
 * input, and a backend that is installed. Reads the input once, or its first 10,000 rows where its files say
 * how many there are.
 *
 * Throws `InvalidInput` for an input without rows, `Unsupported` if no backend is installed.
 */
export async function chooseSettings(source: Source, options: ChooseOptions = {}): Promise<ChosenSettings> {
  const { metric, memoryLimit, parallelism, dim, onBadRow, signal } = options
  let columns: SourceColumns | undefined
  const facts = await readInputFacts(source, {
    signal,
    dim,
    ...(onBadRow === "skip" && { onBadRow: () => {} }),
    onColumns: (found) => {
      columns ??= found
    },
  })
  const planOf = (backend: BackendName | undefined) =>
    planSnapshot(facts, {
      cores: parallelism ?? availableParallelism(),
      ...(metric && { metric }),
      ...(memoryLimit && { memoryLimit }),
      ...(backend && { backend }),
    })
  const plan = planOf(options.backend)
  const backend = options.backend ?? (await installedBackend(plan.backend, facts.dim))
  return {
    sharding: {
      strategy: DEFAULT_STRATEGY,
      shards: (backend === plan.backend ? plan : planOf(backend)).shards,
    },
    backend,
    plan,
    columns,
  }
}

/** The backend that is preferred, else the next one that is there and takes so many dimensions. */
async function installedBackend(preferred: BackendName, dim: number): Promise<BackendName> {
  const others = allBackends().filter(({ name, limits }) => name !== preferred && dim <= limits.dim)
  try {
    await backendByName(preferred).assertInstalled("build")
    return preferred
  } catch (error) {
    for (const backend of others) {
      const isThere = await backend.assertInstalled("build").then(
        () => true,
        () => false,
      )
      if (isThere) return backend.name as BackendName
    }
    throw error
  }
}
