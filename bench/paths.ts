import { join } from "node:path"

/** A path in the repository, from compiled benchmarks, which lie in dist/bench. */
export const fromRepository = (...segments: string[]): string =>
  join(import.meta.dirname, "../..", ...segments)
