import { describe, expect, it } from "vitest"
import { createSemaphore } from "../../../src/async/semaphore.js"

function gate() {
  let open = () => {}
  const opened = new Promise<void>((resolve) => {
    open = resolve
  })
  return { open, opened }
}

const settled = () => new Promise((resolve) => setImmediate(resolve))

describe("createSemaphore", () => {
  it("runs as many tasks at a time as it has places, in the order of arrival", async () => {
    const semaphore = createSemaphore(2)
    const gates = Array.from({ length: 5 }, gate)
    const started: number[] = []
    const runs = gates.map(({ opened }, i) =>
      semaphore.run(() => {
        started.push(i)
        return opened
      }),
    )
    await settled()
    expect(started).toEqual([0, 1])
    gates[1]!.open()
    await settled()
    expect(started).toEqual([0, 1, 2])
    for (const { open } of gates) open()
    await Promise.all(runs)
    expect(started).toEqual([0, 1, 2, 3, 4])
  })

  it("frees the place of a task that fails", async () => {
    const semaphore = createSemaphore(1)
    await expect(semaphore.run(() => Promise.reject(new Error("no")))).rejects.toThrow("no")
    expect(await semaphore.run(async () => "next")).toBe("next")
  })

  it("lets a waiter leave when its signal fires, and never runs it", async () => {
    const semaphore = createSemaphore(1)
    const { open, opened } = gate()
    const controller = new AbortController()
    const started: string[] = []
    const note = (name: string) => async () => {
      started.push(name)
    }
    const first = semaphore.run(() => opened)
    const second = semaphore.run(note("second"), controller.signal)
    const third = semaphore.run(note("third"))
    controller.abort()
    await expect(second).rejects.toMatchObject({ tag: "Aborted" })
    open()
    await Promise.all([first, third])
    expect(started).toEqual(["third"])
    await semaphore.run(note("fourth"))
    expect(started).toEqual(["third", "fourth"])
  })

  it("does not start a task whose signal has fired already", async () => {
    const semaphore = createSemaphore(1)
    const run = semaphore.run(() => Promise.reject(new Error("ran")), AbortSignal.abort())
    await expect(run).rejects.toMatchObject({ tag: "Aborted" })
  })
})
