/** Naming the root of snapshots: by its URL or path, or by a store that is open. */
import { invalidInput } from "../errors.js"
import { openStore, type StoreOptions } from "./open.js"
import type { CallOptions, ObjectStore } from "./store.js"
import { asTagged } from "./system-fault.js"

/** `s3://bucket/prefix`, a directory, `memory://name`, or an open store, which stays open. */
export type Root = string | ObjectStore

export interface RootOptions {
  /** How to reach a root that is named by its URL; not for one that is open. */
  readonly store?: StoreOptions | undefined
}

export interface RootCallOptions extends CallOptions, RootOptions {}

/**
 * Runs `use` with the store of a root; one that was opened for it is closed afterwards. Throws `InvalidInput`
 * for what is neither a URL nor a store.
 */
export async function withRoot<T>(
  root: Root,
  { store: options }: RootOptions,
  use: (store: ObjectStore) => Promise<T>,
): Promise<T> {
  const opened = typeof root === "string" ? openStore(root, options) : undefined
  const store = opened ?? checked(root as ObjectStore)
  try {
    return await use(store)
  } catch (error) {
    throw asTagged(error, `work on ${store.url}`)
  } finally {
    opened?.close()
  }
}

/**
 * Throws `InvalidInput` for a root that is neither a text nor a store; programs without types may give
 * anything.
 */
export function assertRoot(root: Root): void {
  if (typeof root !== "string") checked(root)
}

function checked(root: ObjectStore): ObjectStore {
  if (typeof (root as Partial<ObjectStore> | undefined | null)?.get === "function") return root
  const found = root === null ? "null" : typeof root
  throw invalidInput(`a root is named by a URL, a path or an open store, got ${found}`, { got: found })
}
