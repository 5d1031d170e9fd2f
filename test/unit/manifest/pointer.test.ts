import { readFileSync } from "node:fs"
import { describe, expect, it } from "vitest"
import {
  decodePointer,
  encodePointer,
  HISTORY_LIMIT,
  liveSinceOf,
  type Pointer,
  publicationsOf,
  type StoredPointer,
  withCondemned,
  withoutCondemned,
  withPublication,
  withTimesOf,
} from "../../../src/manifest/pointer.js"
import { seal } from "../../../src/manifest/seal.js"
import { fromRoot } from "../../support/paths.js"

const golden = (name: string): Buffer => readFileSync(fromRoot("test/data/golden", name))

/** Must equal what test/data/golden/pointer-v1-history.json holds, for ever. */
const POINTER: Pointer = {
  manifest: "manifests/20261121T030000.000Z-k3v9x2m4q7ab.json",
  run: "k3v9x2m4q7ab",
  publishedAt: new Date("2026-11-21T03:00:01.000Z"),
  number: 3,
  action: "rollback",
  history: [
    {
      manifest: "manifests/20261121T020000.000Z-z3v9x2m4q7ab.json",
      run: "z3v9x2m4q7ab",
      publishedAt: new Date("2026-11-21T02:00:01.000Z"),
      number: 2,
      action: "publish",
    },
  ],
  condemned: ["a1b2c3d4e5f6"],
  write: "w00000000001",
}

const decoded = (pointer: Pointer, lastModified: Date): StoredPointer => ({
  ...decodePointer(encodePointer(pointer), "_CURRENT"),
  lastModified,
})

const next = (run: string) => ({
  run,
  manifest: `manifests/20261122T030000.000Z-${run}.json`,
  publishedAt: new Date("2026-11-22T03:00:00Z"),
  action: "publish" as const,
})

describe("the pointer", () => {
  it("reads back what it wrote, and writes the golden file byte for byte", () => {
    const { write, ...rest } = POINTER
    expect(decodePointer(encodePointer(rest, write), "_CURRENT")).toEqual(POINTER)
    expect(decodePointer(golden("pointer-v1-history.json"), "_CURRENT")).toEqual(POINTER)
    expect(encodePointer(rest, write).toString()).toBe(golden("pointer-v1-history.json").toString())
  })

  it("is read as the first versions wrote it: without number and history", () => {
    expect(decodePointer(golden("pointer-v1.json"), "_CURRENT")).toEqual({
      manifest: POINTER.manifest,
      run: POINTER.run,
      publishedAt: POINTER.publishedAt,
      number: 0,
      action: "publish",
      history: [],
      condemned: [],
      write: "",
    })
  })

  it("has other bytes, and so another ETag, with every write", () => {
    expect(encodePointer(POINTER)).not.toEqual(encodePointer(POINTER))
  })

  it("refuses to name anything but a manifest", () => {
    const { manifest: _, ...rest } = POINTER
    const bytes = seal({ format: "vecsnap", version: 1, ...rest, manifest: "../elsewhere.json" })
    expect(() => decodePointer(bytes, "_CURRENT")).toThrow(/manifest: .*a manifest's key/)
  })

  it("counts publications and remembers the latest of them", () => {
    const first = withPublication(undefined, next("000000000001"))
    expect(first).toMatchObject({ number: 1, run: "000000000001", history: [], condemned: [] })
    let pointer: Pointer = { ...first, write: "" }
    for (let n = 2; n <= HISTORY_LIMIT + 5; n++)
      pointer = { ...withPublication(pointer, next(String(n).padStart(12, "0"))), write: "" }
    expect(pointer.history).toHaveLength(HISTORY_LIMIT)
    const numbers = publicationsOf(pointer).map(({ number }) => number)
    expect(numbers).toEqual(Array.from({ length: HISTORY_LIMIT + 1 }, (_, n) => HISTORY_LIMIT + 5 - n))
  })

  it("remembers when a snapshot became live: when the pointer was written, not when the time was asked for", () => {
    const asked = new Date("2026-11-21T03:00:00Z")
    const moved = new Date("2026-11-21T04:00:00Z")
    const live: StoredPointer = {
      ...withPublication(POINTER, { ...next("000000000001"), publishedAt: asked }),
      write: "",
      lastModified: moved,
    }
    expect(liveSinceOf(live)).toEqual(moved)
    // A collection writes the pointer anew, much later.
    const later = new Date("2026-11-21T09:00:00Z")
    const condemned: StoredPointer = {
      ...withTimesOf(live, withCondemned(live, ["b1b2c3d4e5f6"])),
      write: "",
      lastModified: later,
    }
    expect(liveSinceOf(decoded(condemned, later))).toEqual(moved)
    const replaced = withTimesOf(condemned, withPublication(condemned, next("000000000002")))
    expect(replaced.history[0]).toMatchObject({ run: "000000000001", publishedAt: moved })
    expect(replaced.liveSince).toBeUndefined()
  })

  it("carries the condemned through publications until they are released", () => {
    const condemned = withCondemned(POINTER, ["b1b2c3d4e5f6", "a1b2c3d4e5f6"])
    expect(condemned.condemned).toEqual(["a1b2c3d4e5f6", "b1b2c3d4e5f6"])
    const after = withPublication({ ...condemned, write: "" }, next("000000000001"))
    expect(after.condemned).toEqual(["a1b2c3d4e5f6", "b1b2c3d4e5f6"])
    expect(
      withoutCondemned({ ...after, write: "" }, new Set(["a1b2c3d4e5f6", "ffffffffffff"])).condemned,
    ).toEqual(["b1b2c3d4e5f6"])
  })
})
