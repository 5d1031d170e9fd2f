import { randomUUID } from "node:crypto"
import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterEach, beforeEach, describe, expect, it } from "vitest"
import { createReplaceLock } from "../../../src/storage/local-lock.js"

let directory: string
let lockPath: string
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "vecsnap-lock-"))
  lockPath = join(directory, "lock")
  await writeFile(join(directory, "target"), "old")
  await writeFile(join(directory, "new"), "new")
})
afterEach(() => rm(directory, { recursive: true, force: true }))

const newLock = () => createReplaceLock(lockPath, randomUUID)
const target = () => readFile(join(directory, "target"), "utf8")

/** What a waiter does that takes the holder for dead. */
async function steal(): Promise<void> {
  const [held] = await readdir(lockPath)
  const stolen = join(lockPath, "held-by-thief")
  await rename(join(lockPath, held!), stolen)
  for (const leftover of await readdir(stolen)) await rm(join(stolen, leftover))
}

describe("createReplaceLock", () => {
  it("replaces a file", async () => {
    await newLock().hold(async (holder) => {
      expect(await holder.stage(join(directory, "new"))).toBe(true)
      expect(await target()).toBe("old")
      expect(await holder.commit(join(directory, "target"))).toBe(true)
    })
    expect(await target()).toBe("new")
    expect(await readdir(lockPath)).toEqual(["free"])
  })

  it("removes a file", async () => {
    await newLock().hold(async (holder) => {
      expect(await holder.remove(join(directory, "target"))).toBe(true)
    })
    expect(await readdir(directory)).toEqual(["lock", "new"])
    expect(await readdir(join(lockPath, "free"))).toEqual([])
  })

  it("lets no slow holder commit once the lock was stolen", async () => {
    await newLock().hold(async (holder) => {
      expect(await holder.stage(join(directory, "new"))).toBe(true)
      await steal()
      expect(await holder.commit(join(directory, "target"))).toBe(false)
      expect(await holder.remove(join(directory, "target"))).toBe(false)
    })
    expect(await target()).toBe("old")
    expect(await readdir(lockPath)).toEqual(["held-by-thief"])
  })

  it("lets no slow holder stage once the lock was stolen", async () => {
    await newLock().hold(async (holder) => {
      await steal()
      expect(await holder.stage(join(directory, "new"))).toBe(false)
    })
    expect(await readdir(directory)).toEqual(["lock", "new", "target"])
  })

  it("has one holder at a time, however many locks are opened on the path at once", async () => {
    let holders = 0
    let most = 0
    await Promise.all(
      Array.from({ length: 12 }, async () => {
        await newLock().hold(async () => {
          holders++
          most = Math.max(most, holders)
          await new Promise((done) => setTimeout(done, 2))
          holders--
        })
      }),
    )
    expect(most).toBe(1)
    expect(await readdir(directory)).toEqual(["lock", "new", "target"])
  })

  it("mends a lock whose token was lost, as by a copy that drops empty directories", async () => {
    await mkdir(lockPath)
    expect(await newLock().hold(async () => "held")).toBe("held")
    expect(await readdir(lockPath)).toEqual(["free"])
  })

  it("is given back when the task throws", async () => {
    const lock = newLock()
    await expect(lock.hold(() => Promise.reject(new Error("no")))).rejects.toThrow("no")
    expect(await lock.hold(async () => "held")).toBe("held")
  })
})
