import { once } from "node:events"
import { expect, test } from "vitest"
import { withTimeout } from "../../../cli/timeout.js"
import { aborted } from "../../../src/errors.js"
import { captureIo } from "./capture.js"

const untilStopped = async ({ signal }: { readonly signal: AbortSignal }): Promise<never> => {
  if (!signal.aborted) await once(signal, "abort")
  throw aborted("it was stopped")
}

test.each([0.001, 0.0145, 0.0005])("what takes longer than %d s is Unavailable", async (seconds) => {
  await expect(withTimeout(captureIo(), seconds, untilStopped)).rejects.toMatchObject({
    tag: "Unavailable",
    message: `no answer within ${seconds} s (--timeout)`,
    details: { seconds },
  })
})

test("what the user stops stays Aborted, time limit or not", async () => {
  const io = captureIo({ signal: AbortSignal.abort("SIGINT") })
  for (const seconds of [undefined, 60])
    await expect(withTimeout(io, seconds, untilStopped)).rejects.toMatchObject({ tag: "Aborted" })
})

test("what is done in time, or fails by itself, is as it is", async () => {
  expect(await withTimeout(captureIo(), 60, async () => 5)).toBe(5)
  const failure = new Error("by itself")
  await expect(withTimeout(captureIo(), 60, () => Promise.reject(failure))).rejects.toBe(failure)
})
