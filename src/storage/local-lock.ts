/**
 * Replaces files under a lock that works across processes and machines sharing a directory, survives the
 * death of its holder, and needs no idea of who is alive.
 *
 * The lock is one directory, the token. It is named `free`, or `held-<nonce>` by its holder, with a nonce
 * that is never used twice. Taking, giving back and stealing the lock are renames of the token, and of
 * several renames from one name exactly one succeeds. A waiter that has seen the same holder for
 * {@link STALE_MS} steals the token, rightly (the holder was killed) or wrongly (it was only slow). Being
 * wrong does no harm, since a change goes through the token:
 *
 * 1. take the token, and remove what is in it;
 * 2. move the prepared file into it:        `tmp/<nonce>` to `lock/held-<nonce>/<nonce>`;
 * 3. look at the file to be replaced, and decide;
 * 4. commit:                                `lock/held-<nonce>/<nonce>` to its place.
 *
 * Once another has done step 1, a former holder cannot commit. Its file was in the token by then: it is gone.
 * Or it came in later: then the name `held-<nonce>` is gone since before its step 3, and step 4 does not find
 * its file. Either way step 4 fails with ENOENT, and the former holder starts again. So nobody changes a file
 * between a successful step 4 and the step 3 before it.
 *
 * A lock that comes with an image, in a lower layer of overlayfs, can be renamed by nobody (EXDEV), since its
 * token is a directory. Whoever meets one goes on with another lock, named like it with a "+" at the end, and
 * so does everybody else who sees that layer.
 *
 * Removing goes the other way, out of its place into the token, so only its arrival is tied to the name
 * `held-<nonce>`: it could come late only from a thread that the kernel paused for longer than
 * {@link STALE_MS} within one rename.
 */
import { lstat, mkdir, readdir, rename, rm, rmdir } from "node:fs/promises"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { createSemaphore, type Semaphore } from "../async/semaphore.js"
import { throwIfAborted } from "../errors.js"
import { errorCode } from "./files.js"

/** For how long the same holder is waited for. A holder needs a few file operations: milliseconds. */
const STALE_MS = 5_000
const POLL_MS_MAX = 10

/** What a holder can do. Each returns false, and has changed nothing, if the lock was stolen meanwhile. */
export interface LockHolder {
  /** Moves the prepared file `temporary` into the token: step 2. */
  stage(temporary: string): Promise<boolean>
  /** Moves the staged file to `target`, an existing file: step 4. */
  commit(target: string): Promise<boolean>
  /** Removes `target`, an existing file. */
  remove(target: string): Promise<boolean>
}

export interface ReplaceLock {
  /** Runs `task` while holding the lock. */
  hold<T>(task: (holder: LockHolder) => Promise<T>, signal?: AbortSignal): Promise<T>
}

/**
 * The lock at `directory`, which is created when first needed. Its parent must exist by then.
 *
 * @param newNonce gives a file name that was never given before, in any process
 */
export function createReplaceLock(directory: string, newNonce: () => string): ReplaceLock {
  /** Of this lock: the directory as it was given, or with one "+" for each lower layer that holds one. */
  let at = directory
  // The calls of one process queue here, in order, and do not poll against each other.
  const queue: Semaphore = createSemaphore(1)

  /** Takes the token, and returns what it is called then. */
  async function take(nonce: string, signal: AbortSignal | undefined): Promise<string> {
    for (;;) {
      const held = join(at, `held-${nonce}`)
      try {
        await takeAs(held, signal)
        return held
      } catch (error) {
        if (errorCode(error) !== "EXDEV") throw error
        at += "+"
      }
    }
  }

  async function takeAs(held: string, signal: AbortSignal | undefined): Promise<void> {
    const freeToken = join(at, "free")
    let seen: string | undefined
    let seenSinceMs = 0
    for (;;) {
      throwIfAborted(signal)
      if ((await moved(freeToken, held)) && (await emptied(held))) return
      const holder = await currentHolder()
      const nowMs = performance.now()
      if (holder === undefined) {
        if (await createToken()) continue
      } else if (holder !== seen) {
        seen = holder
        seenSinceMs = nowMs
      } else if (nowMs - seenSinceMs > STALE_MS) {
        if ((await moved(join(at, holder), held)) && (await emptied(held))) return
      }
      await sleep(Math.random() * POLL_MS_MAX)
    }
  }

  async function currentHolder(): Promise<string | undefined> {
    const entries = await listed(at)
    return entries?.find((entry) => entry.startsWith("held-"))
  }

  // A directory cannot be renamed onto one that is not empty, and the lock always holds its token: however
  // many try, and however late, there is one token. (A listing taken while the token moves may show none;
  // then this fails too.)
  async function createToken(): Promise<boolean> {
    const prepared = `${at}-${newNonce()}`
    await mkdir(join(prepared, "free"), { recursive: true })
    try {
      await rename(prepared, at)
      return true
    } catch (error) {
      await rmdir(join(prepared, "free"))
      await rmdir(prepared)
      const code = errorCode(error)
      if (code !== "ENOTEMPTY" && code !== "EEXIST") throw error
      return false
    }
  }

  return {
    hold: (task, signal) =>
      queue.run(async () => {
        const nonce = newNonce()
        const held = await take(nonce, signal)
        const staged = join(held, nonce)
        try {
          return await task({
            stage: (temporary) => moved(temporary, staged),
            commit: (target) => moved(staged, target),
            remove: (target) => moved(target, staged),
          })
        } finally {
          await rm(staged, { force: true })
          // Not found: it was stolen, and is another's now.
          await moved(held, join(at, "free"))
        }
      }, signal),
  }
}

/** Removes what a former holder left in the token: step 1. False if the token was stolen. */
async function emptied(token: string): Promise<boolean> {
  // A token is a directory. What a link in its place leads to is nobody's to empty; without a token the next
  // one is made.
  if ((await lstat(token).catch(() => undefined))?.isSymbolicLink()) {
    await rm(token, { force: true })
    return false
  }
  const leftovers = await listed(token)
  for (const leftover of leftovers ?? []) await rm(join(token, leftover), { force: true })
  return leftovers !== undefined
}

async function listed(directory: string): Promise<string[] | undefined> {
  try {
    return await readdir(directory)
  } catch (error) {
    if (errorCode(error) === "ENOENT") return undefined
    throw error
  }
}

/** Renames; false if there is nothing at `from`, or no directory for `to`. */
async function moved(from: string, to: string): Promise<boolean> {
  try {
    await rename(from, to)
    return true
  } catch (error) {
    if (errorCode(error) === "ENOENT") return false
    throw error
  }
}
