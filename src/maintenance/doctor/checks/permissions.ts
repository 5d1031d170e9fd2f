/** What is granted and what is refused. */
import { enumerate, type Judgement } from "../diagnosis.js"
import { isRefusal, type Permission, type PermissionState, type Trial } from "../trial.js"
import type { StoreCheck } from "./check.js"
import { failed, ok, warning } from "./judgements.js"
import { keysOf } from "./listing.js"

/** What was granted and refused so far; what is still unknown is tried on nothing. */
async function observePermissions(
  { store, key, permissions }: Trial,
  signal: AbortSignal,
): Promise<Readonly<Record<Permission, PermissionState>>> {
  const attempts: Partial<Record<Permission, () => Promise<unknown>>> = {
    list: () => keysOf(store, key("list/"), signal),
    delete: () => store.delete([key("missing")], { signal }),
  }
  for (const [permission, tryIt] of Object.entries(attempts)) {
    if (permissions[permission as Permission] !== "unknown") continue
    await tryIt().catch((error) => {
      if (!isRefusal(error)) throw error
    })
  }
  return permissions
}

const NEEDED_FOR: Readonly<Record<Permission, string>> = {
  get: "everything, readers above all",
  put: "build, publish and rollback",
  list: "history and gc",
  delete: "gc",
}

export function judgePermissions(states: Readonly<Record<Permission, PermissionState>>): Judgement {
  const names = Object.keys(states) as Permission[]
  const inState = (state: PermissionState): Permission[] => names.filter((name) => states[name] === state)
  const [granted, refused, unknown] = [inState("granted"), inState("refused"), inState("unknown")]
  const finding = [
    granted.length > 0 ? `${enumerate(granted)} allowed` : "",
    refused.length > 0 ? `${enumerate(refused)} refused` : "",
    unknown.length > 0 ? `${enumerate(unknown)} not known` : "",
  ]
    .filter(Boolean)
    .join("; ")
  if (refused.length === 0 && unknown.length === 0) return ok(finding)
  const meaning = [...refused, ...unknown]
    .map((name) => `${name} is needed for ${NEEDED_FOR[name]}`)
    .join("; ")
  const essential = refused.includes("get") || refused.includes("put")
  return essential ? failed(finding, meaning) : warning(finding, meaning)
}

export const permissions: StoreCheck = {
  name: "permissions",
  needsWriting: false,
  make: async (...at) => judgePermissions(await observePermissions(...at)),
}
