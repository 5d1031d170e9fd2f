import { setTimeout as sleep } from "node:timers/promises"
import { describe, expect, it } from "vitest"
import { inLanes } from "../../../src/async/lanes.js"

const settled = () => new Promise((resolve) => setImmediate(resolve))

/** Work that ends when it is told to, for some items; `begun` and `ended` say which. */
function manual() {
  const begun: number[] = []
  const ended: number[] = []
  const ends = new Map<number, { resolve: () => void; reject: (error: Error) => void }>()
  const signals: AbortSignal[] = []
  const work = async (item: number, signal: AbortSignal): Promise<string> => {
    begun.push(item)
    signals.push(signal)
    await new Promise<void>((resolve, reject) => ends.set(item, { resolve, reject })).finally(() =>
      ended.push(item),
    )
    return `did ${item}`
  }
  return { begun, ended, ends, signals, work }
}

describe("inLanes", () => {
  it("runs so many at a time, in order, and gives the results in order", async () => {
    const { begun, ends, work } = manual()
    const all = inLanes([1, 2, 3, 4], 2, work)
    await settled()
    expect(begun).toEqual([1, 2])
    ends.get(2)!.resolve()
    await settled()
    expect(begun).toEqual([1, 2, 3])
    ends.get(3)!.resolve()
    await settled()
    for (const { resolve } of ends.values()) resolve()
    expect(await all).toEqual(["did 1", "did 2", "did 3", "did 4"])
  })

  it("needs no items, and more lanes than items are no harm", async () => {
    expect(await inLanes([], 3, async () => "never")).toEqual([])
    expect(await inLanes(["a", "b"], 100, (item, _, index) => `${item}${index}`)).toEqual(["a0", "b1"])
  })

  it("begins nothing after a failure, tells the others, and waits for them", async () => {
    const { begun, ended, ends, signals, work } = manual()
    const all = inLanes([1, 2, 3, 4], 2, work)
    let outcome: unknown
    all.catch((error) => {
      outcome = error
    })
    await settled()
    ends.get(1)!.reject(new Error("the first"))
    await settled()
    expect(signals[1]!.aborted).toBe(true)
    expect([begun, outcome]).toEqual([[1, 2], undefined])
    ends.get(2)!.reject(new Error("the second"))
    await expect(all).rejects.toThrow("the first")
    expect(ended).toEqual([1, 2])
  })

  it("throws Aborted when the signal fires, after what was begun has ended", async () => {
    const { begun, ended, ends, signals, work } = manual()
    const controller = new AbortController()
    const all = inLanes([1, 2, 3], 2, work, controller.signal)
    const outcome = expect(all).rejects.toMatchObject({ tag: "Aborted", cause: "enough" })
    await settled()
    controller.abort("enough")
    expect(signals.map(({ aborted, reason }) => [aborted, reason])).toEqual(Array(2).fill([true, "enough"]))
    for (const { resolve } of ends.values()) resolve()
    await outcome
    expect([begun, ended]).toEqual([
      [1, 2],
      [1, 2],
    ])
    await expect(inLanes([1], 1, work, controller.signal)).rejects.toMatchObject({ tag: "Aborted" })
    expect(begun).toEqual([1, 2])
  })

  it("leaves no listener behind, and many lanes draw no warning", async () => {
    const warnings: Error[] = []
    const onWarning = (warning: Error) => warnings.push(warning)
    process.on("warning", onWarning)
    const { signal } = new AbortController()
    for (let round = 0; round < 20; round++) {
      await inLanes(Array(40).fill(0), 40, (_, own) => sleep(0, undefined, { signal: own }), signal)
    }
    await settled()
    process.off("warning", onWarning)
    expect(warnings).toEqual([])
  })
})
