import { expect, it } from "vitest"
import { corrupt, errorFromWire, errorToWire } from "../../src/errors.js"

it("an error is short, whatever it repeats, and says how it starts and ends", () => {
  const long = "x".repeat(50_000_000)
  const error = corrupt(`shard.db has the format ${long}, expected "1"`, { sql: long, key: "a", n: 5 })
  const other = errorFromWire(errorToWire(error))
  for (const { message } of [error, other])
    expect(message).toMatch(/^shard\.db has the format x+ … \d+ characters … x+, expected "1"$/)
  for (const it of [error, other]) {
    expect(it.message.length).toBeLessThan(4000)
    expect(it.stack!.length).toBeLessThan(10_000)
    expect(JSON.stringify((it as typeof error).details).length).toBeLessThan(4100)
    expect(it).toMatchObject({ details: { key: "a", n: 5 } })
  }
})

it("what is short enough stays as it is", () => {
  const text = "x".repeat(4000)
  const details = { text, list: [1] }
  expect(corrupt(text, details)).toMatchObject({ message: text, details })
})
