import { getEventListeners, once } from "node:events"
import { describe, expect, it } from "vitest"
import { aborted } from "../../../../src/errors.js"
import { createCallScope } from "../../../../src/reader/calls/call-scope.js"

describe("call scope", () => {
  it("says why a call was stopped: the caller, the clock, or the end of the reader", async () => {
    const closing = new AbortController()
    const user = new AbortController()
    const bounds = { what: "search", closing: closing.signal }
    const stopped = aborted("somewhere deep")

    const byUser = createCallScope({ ...bounds, signal: user.signal })
    user.abort("enough")
    expect(byUser.signal.reason).toBe("enough")
    expect(byUser.explain(stopped)).toBe(stopped)

    const late = createCallScope({ ...bounds, timeoutMs: 1 })
    await once(late.signal, "abort")
    expect(late.explain(stopped)).toMatchObject({
      tag: "Aborted",
      message: "the search has not ended within 1 ms (timeoutMs)",
      details: { timeoutMs: 1 },
    })
    const other = new Error("another")
    expect(late.explain(other)).toBe(other)

    const cut = createCallScope(bounds)
    closing.abort()
    expect(cut.explain(stopped)).toMatchObject({ tag: "Closed" })
  })

  it("keeps nothing on long-lived signals, and stops what goes on when the call has ended", () => {
    const closing = new AbortController()
    const user = new AbortController()
    const scope = createCallScope({ what: "search", signal: user.signal, closing: closing.signal })
    expect(scope.signal.aborted).toBe(false)
    scope.end()
    expect(scope.signal.aborted).toBe(true)
    for (const { signal } of [closing, user]) expect(getEventListeners(signal, "abort")).toEqual([])

    const complete = createCallScope({ what: "search", signal: user.signal, closing: closing.signal })
    complete.end(true)
    user.abort()
    expect(complete.signal.aborted).toBe(false)
    for (const { signal } of [closing, user]) expect(getEventListeners(signal, "abort")).toEqual([])
  })

  it.each([0, -1, Number.NaN, 2 ** 31])("refuses timeoutMs %s", (timeoutMs) => {
    const closing = new AbortController().signal
    expect(() => createCallScope({ what: "search", timeoutMs, closing })).toThrow(/option timeoutMs/)
  })
})
