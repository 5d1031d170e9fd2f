import { isLasting, isVecsnapError, lastingFault, throwIfAborted, type VecsnapError } from "../../errors.js"
import { newId, probeKey } from "../../manifest/keys.js"
import type { DeleteFailure, ObjectStore } from "../../storage/store.js"
import { wrapStore } from "../../storage/wrap-store.js"

/** What a store asks permission for. `head` is a `get` there. */
export type Permission = "get" | "put" | "list" | "delete"
export type PermissionState = "granted" | "refused" | "unknown"

/**
 * The corner of a store in which doctor works: keys that nothing else uses, and a record of what was done
 * there.
 */
export interface Trial {
  /** The store, watched: what is written and what is refused is remembered. */
  readonly store: ObjectStore
  /** All keys of this trial start with it. */
  readonly prefix: string
  key(file: string): string
  /** Keys that were written, or may have been. */
  readonly written: ReadonlySet<string>
  readonly permissions: Readonly<Record<Permission, PermissionState>>
}

/** Begins a trial of `store` under a fresh id. */
export function createTrial(store: ObjectStore): Trial {
  const id = newId()
  const written = new Set<string>()
  const permissions: Record<Permission, PermissionState> = {
    get: "unknown",
    put: "unknown",
    list: "unknown",
    delete: "unknown",
  }
  const observed = wrapStore(store, async (operation, call, signal) => {
    // A check that is over must not go on writing, not even on a store that overlooks the signal.
    throwIfAborted(signal)
    const permission = operation === "head" || operation === "getFile" ? "get" : operation
    try {
      const result = await call()
      permissions[permission] = "granted"
      return result
    } catch (error) {
      if (isRefusal(error) && permissions[permission] === "unknown") permissions[permission] = "refused"
      throw error
    }
  })
  return {
    store: {
      ...observed,
      get: async (key, options) => {
        if (written.has(key)) return observed.get(key, options)
        // To who may not list, S3 refuses what does not exist: that says nothing about what does.
        const found = await store.get(key, options)
        permissions.get = "granted"
        return found
      },
      put: (key, body, options) => {
        // Before the call: its reply may get lost.
        written.add(key)
        return observed.put(key, body, options)
      },
      delete: async (keys, options) => {
        const failures = await observed.delete(keys, options)
        if (!failures.some(isRefusedDelete)) return failures
        permissions.delete = "refused"
        throw refusedDelete(store.url, failures)
      },
    },
    prefix: probeKey(id, ""),
    key: (file) => probeKey(id, file),
    written,
    permissions,
  }
}

// By S3, by MinIO for anonymous users, and by file systems.
const REFUSALS = new Set(["AccessDenied", "AllAccessDisabled", "EACCES", "EPERM", "EROFS"])

/** Whether the store knows who asks, and says no; rather than not knowing the credentials. */
export function isRefusal(error: unknown): error is VecsnapError {
  if (!isVecsnapError(error) || !isLasting(error)) return false
  const { code, status } = error.details
  if (REFUSALS.has(String(code))) return true
  // An answer to HEAD has no body that could tell; the credentials are known to be right by then.
  return status === 403 && ["Forbidden", "403", "Unknown", "UnknownError"].includes(String(code))
}

const isRefusedDelete = ({ reason }: DeleteFailure): boolean =>
  /AccessDenied|EACCES|EPERM|EROFS|permission|read-only/i.test(reason)

const refusedDelete = (url: string, [first]: readonly DeleteFailure[]): VecsnapError =>
  lastingFault(`deleting ${url}/${first?.key} was refused: ${first?.reason}`, {
    key: first?.key,
    code: "AccessDenied",
  })
