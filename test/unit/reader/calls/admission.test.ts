import { describe, expect, it } from "vitest"
import { createAdmission } from "../../../../src/reader/calls/admission.js"

const never = new AbortController().signal

/** A task that ends when it is told to. */
function blocked() {
  let end!: () => void
  const ended = new Promise<void>((resolve) => (end = resolve))
  return { task: () => ended, end }
}

describe("admission", () => {
  it("runs so many, lets so many wait in order, and refuses the rest at once with a hint", async () => {
    const admission = createAdmission({ running: 1, maxQueued: 2, queueTimeoutMs: 60_000 }, () => 0)
    const first = blocked()
    const order: string[] = []
    const calls = [
      admission.run(first.task, never),
      ...["second", "third"].map((name) => admission.run(async () => void order.push(name), never)),
    ]
    expect(admission).toMatchObject({ running: 1, queued: 2, refused: 0 })
    await expect(admission.run(async () => order.push("fourth"), never)).rejects.toMatchObject({
      tag: "Unavailable",
      message: "this reader is busy: 1 calls run and 2 wait, the most that may; try again in 150 ms",
      details: { retryAfterMs: 150, running: 1, queued: 2 },
    })
    first.end()
    await Promise.all(calls)
    expect(order).toEqual(["second", "third"])
    expect(admission).toMatchObject({ running: 0, queued: 0, refused: 1 })
  })

  it("bounds the time of waiting, and gives the place back", async () => {
    const admission = createAdmission({ running: 1, maxQueued: 1, queueTimeoutMs: 5 })
    const first = blocked()
    const running = admission.run(first.task, never)
    let ran = false
    await expect(
      admission.run(async () => {
        ran = true
      }, never),
    ).rejects.toMatchObject({
      tag: "Unavailable",
      details: { retryAfterMs: expect.any(Number), queued: 0 },
    })
    first.end()
    await running
    expect(ran).toBe(false)
    expect(await admission.run(async () => "fine", never)).toBe("fine")
    expect(admission).toMatchObject({ running: 0, queued: 0, refused: 1 })
  })

  it("lets a caller leave the queue, which is no refusal", async () => {
    const admission = createAdmission({ running: 1, maxQueued: 1, queueTimeoutMs: 60_000 })
    const first = blocked()
    const running = admission.run(first.task, never)
    const controller = new AbortController()
    const waiting = admission.run(async () => "never", controller.signal)
    controller.abort()
    await expect(waiting).rejects.toMatchObject({ tag: "Aborted" })
    expect(admission).toMatchObject({ running: 1, queued: 0, refused: 0 })
    first.end()
    await running
  })

  it("passes on what a task throws, and hints by how long calls take", async () => {
    let now = 0
    const admission = createAdmission({ running: 2, maxQueued: 0, queueTimeoutMs: 1 }, () => now)
    const failing = async () => {
      now += 1050
      throw new Error("its own")
    }
    await expect(admission.run(failing, never)).rejects.toThrow("its own")
    const blockers = [blocked(), blocked()]
    const running = blockers.map(({ task }) => admission.run(task, never))
    // The average moved by a tenth, from 50 to 150 ms, for one that would wait on two places.
    await expect(admission.run(async () => {}, never)).rejects.toMatchObject({
      details: { retryAfterMs: 75 },
    })
    for (const { end } of blockers) end()
    await Promise.all(running)
  })
})
