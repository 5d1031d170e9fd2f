/**
 * Who owns a file or directory on disk, told by its name, and whether the owner is gone. Processes of several
 * hosts or containers may share a directory, so a process number alone says nothing.
 */
import { createHash, randomUUID } from "node:crypto"
import { readlinkSync } from "node:fs"
import { hostname } from "node:os"

/** How often an owner renews the time stamps of what it owns, in milliseconds. */
export const RENEW_MS = 5 * 60_000
/** What nobody has renewed for so long has no owner any more. */
export const ABANDONED_MS = 60 * 60_000

/** Equal for processes that see each other's process numbers. */
const HOST = createHash("sha256").update(`${hostname()} ${pidNamespace()}`).digest("hex").slice(0, 8)

/** A name that was never given before, in any process: `<host>-<pid>-<random>`. */
export const newOwnerName = (): string => `${HOST}-${process.pid}-${randomUUID().slice(0, 8)}`

/** Whether the process that chose this name is gone, or has not renewed it for {@link ABANDONED_MS}. */
export function isOwnerGone(name: string, renewedMs: number, nowMs = Date.now()): boolean {
  return nowMs - renewedMs > ABANDONED_MS || isProcessGone(name)
}

/** Whether the process that chose this name ran where this one does, and is gone. */
export function isProcessGone(name: string): boolean {
  const [, host, pid] = /^([0-9a-f]{8})-(\d+)-[0-9a-f]{8}$/.exec(name) ?? []
  return host === HOST && !isRunning(Number(pid))
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    // EPERM: it runs, as somebody else.
    return (error as NodeJS.ErrnoException).code === "EPERM"
  }
}

// Containers may share the name of their host.
function pidNamespace(): string {
  try {
    return readlinkSync("/proc/self/ns/pid")
  } catch {
    return ""
  }
}
