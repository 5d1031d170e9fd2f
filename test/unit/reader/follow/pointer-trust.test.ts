import { describe, expect, it } from "vitest"
import { unavailable } from "../../../../src/errors.js"
import { silentLogger } from "../../../../src/logger.js"
import type { RootPointer } from "../../../../src/manifest/formats.js"
import { createPointerTrust } from "../../../../src/reader/follow/pointer-trust.js"
import type { SeenNumbers } from "../../../../src/reader/follow/seen-numbers.js"
import { signStatement } from "../../../../src/snapshot/signatures/verdict.js"
import { testKey } from "../../../support/keys.js"

const KEY = testKey()

const pointer = (number: number, key = KEY): RootPointer => {
  const statement = Buffer.from(`number ${number}`)
  const signatures = signStatement(statement, [key.signing])
  const signature = { statement, signatures, signedAt: new Date(0), manifestSha256: "" }
  return { number, signature } as Partial<RootPointer> as RootPointer
}

/** What all processes of a machine have seen, as one of them is told. */
function memory(): SeenNumbers & { number: number } {
  return {
    number: 0,
    directory: "/cache/.seen/root",
    async highest() {
      return this.number
    },
    async note(number) {
      this.number = Math.max(this.number, number)
    },
  }
}

const trustIn = (seen: SeenNumbers, seenMayFail = false, warn: (message: string) => void = () => {}) =>
  createPointerTrust({
    keys: [KEY.trusted],
    seen,
    seenMayFail,
    logger: { ...silentLogger, warn: (_: unknown, message?: string) => warn(message!) },
  })

const believe = async (trust: ReturnType<typeof trustIn>, read: RootPointer) => (await trust.begin())(read)
const WENT_BACK = { tag: "Corrupt", details: { distrust: "number-went-back" } }

describe("a pointer", () => {
  it("is believed as long as its number does not go back", async () => {
    const seen = memory()
    const trust = trustIn(seen)
    await believe(trust, pointer(5))
    await believe(trust, pointer(5))
    await believe(trust, pointer(8))
    expect(seen.number).toBe(8)
    await expect(believe(trust, pointer(7))).rejects.toMatchObject(WENT_BACK)
    await expect(believe(trust, pointer(7))).rejects.toThrow(seen.directory)
  })

  it("that another process has seen counts, too", async () => {
    const seen = memory()
    const trust = trustIn(seen)
    await believe(trust, pointer(5))
    await believe(trustIn(seen), pointer(9))
    await expect(believe(trust, pointer(8))).rejects.toMatchObject(WENT_BACK)
  })

  it("is not held against what others saw while it was being read", async () => {
    const seen = memory()
    const trust = trustIn(seen)
    const first = await trust.begin()
    await believe(trustIn(seen), pointer(9))
    await first(pointer(8))
    await expect(believe(trust, pointer(8))).rejects.toMatchObject(WENT_BACK)
  })

  it("that nobody has signed raises no number", async () => {
    const seen = memory()
    const forged = pointer(1000, testKey())
    await expect(believe(trustIn(seen), forged)).rejects.toMatchObject({
      details: { distrust: "unknown-key" },
    })
    expect(seen.number).toBe(0)
  })

  it("needs a place to remember its number, unless a temporary cache is good enough", async () => {
    const broken: SeenNumbers = {
      directory: "/cache",
      highest: () => Promise.reject(unavailable("no disk")),
      note: () => Promise.reject(unavailable("no disk")),
    }
    await expect(trustIn(broken).begin()).rejects.toMatchObject({ tag: "Unavailable" })
    const warnings: string[] = []
    const trust = trustIn(broken, true, (message) => warnings.push(message))
    await believe(trust, pointer(5))
    expect(warnings).toHaveLength(1)
    await expect(believe(trust, pointer(4))).rejects.toMatchObject(WENT_BACK)
  })
})
