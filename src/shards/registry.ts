/**
 * All backends. Another one is a folder beside these and a line here.
 */
import { getEnvironmentData, setEnvironmentData } from "node:worker_threads"
import { hyphened } from "../wording.js"
import type { ShardBackend, ShardOpener } from "./backend.js"
import { lancedbBackend } from "./lancedb/backend.js"
import type { IndexOptionDeclaration } from "./options.js"
import { sqliteVecBackend } from "./sqlite-vec/backend.js"

/**
 * In order of preference: the first one is the default. Native packages are loaded when they are first
 * needed.
 */
const BACKENDS = [sqliteVecBackend, lancedbBackend] as const

export type BackendName = (typeof BACKENDS)[number]["name"]

const backends: ShardBackend[] = [...BACKENDS]
const names: BackendName[] = BACKENDS.map(({ name }) => name)

/** Names of all backends, in order of preference. */
export const BACKEND_NAMES: readonly BackendName[] = names

export const DEFAULT_BACKEND: BackendName = BACKENDS[0].name

/** All backends, in order of preference. */
export const allBackends = (): readonly ShardBackend[] => backends

/** The backend of this name. */
export function backendByName(name: BackendName): ShardBackend {
  const found = backends.find((backend) => backend.name === name)
  if (found === undefined) throw new Error(`there is no backend "${name}", only ${names.join(", ")}`)
  return found
}

/** What opens the shards of a snapshot: its backend, unless its format has an opener of its own. */
export const openerOf = (snapshot: {
  readonly backend: BackendName
  readonly opener?: ShardOpener | undefined
}): ShardOpener => snapshot.opener ?? backendByName(snapshot.backend)

/** An option of an index, as the command line and `vecsnap.yaml` have it. */
export interface IndexSetting {
  /** "rows-per-partition" */
  readonly name: string
  /** "rowsPerPartition" */
  readonly option: string
  readonly declaration: IndexOptionDeclaration
  /** Names of the backends that have it. */
  readonly backends: readonly string[]
}

/** The options of all indexes. */
export function indexSettings(): readonly IndexSetting[] {
  const settings = new Map<string, IndexSetting>()
  for (const { name: backend, options } of backends) {
    for (const [option, declaration] of Object.entries(options)) {
      const known = settings.get(option)?.backends ?? []
      settings.set(option, {
        name: hyphened(option),
        option,
        declaration,
        backends: [...known, backend],
      })
    }
  }
  return [...settings.values()]
}

/** Where threads find which modules were registered before they were started. */
const MODULES = "vecsnap backends"

/**
 * Adds a backend that is not part of vecsnap, last in the order of preference: the export `backend` of
 * `module`, the URL of a module. Threads that are started later import it too. Registering one twice changes
 * nothing.
 */
export async function registerBackend(module: URL): Promise<void> {
  const { backend } = (await import(module.href)) as { readonly backend: ShardBackend }
  if (backends.some(({ name }) => name === backend.name)) return
  backends.push(backend)
  names.push(backend.name as BackendName)
  setEnvironmentData(MODULES, [...registeredModules(), module.href])
}

/** Adds the backends that the thread that started this one has registered. */
export async function registerInherited(): Promise<void> {
  for (const module of registeredModules()) await registerBackend(new URL(module))
}

/** URLs of the modules that were registered, for threads and processes that have to register them too. */
export const registeredModules = (): readonly string[] =>
  (getEnvironmentData(MODULES) ?? []) as readonly string[]
