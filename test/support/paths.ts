import { join } from "node:path"

/** A path in the repository, from compiled tests, which lie in dist/test/support. */
export const fromRoot = (...segments: string[]): string => join(import.meta.dirname, "../../..", ...segments)

/** A file that another tool wrote, or damaged, to be read as an input. */
export const inputFixture = (name: string): string => fromRoot("test/fixtures/inputs", name)
