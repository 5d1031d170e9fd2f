import { describe, expect, it } from "vitest"
import { typePayload } from "../../../src/reader/payloads.js"

const HIT = { id: "a", shard: 3, distance: 0.5, payload: { title: "one" } }
const upper = {
  parse: (value: unknown) => {
    const { title } = value as { title?: unknown }
    if (typeof title !== "string") throw new Error("title is missing")
    return { title: title.toUpperCase() }
  },
}

describe("payloads as they leave the reader", () => {
  it("are what the schema makes of them, and nothing else changes", () => {
    expect(typePayload(HIT, upper)).toEqual({ ...HIT, payload: { title: "ONE" } })
  })

  it("stay as they are without a schema, and null where there is none", () => {
    expect(typePayload(HIT, undefined)).toEqual(HIT)
    expect(typePayload({ ...HIT, payload: null }, upper).payload).toBeNull()
  })

  it("that the schema refuses are named by id and shard", () => {
    expect(() => typePayload({ ...HIT, payload: {} }, upper)).toThrow(
      expect.objectContaining({
        tag: "InvalidInput",
        message: 'the payload of record "a" in shard 3 is not what payloadSchema expects: title is missing',
      }),
    )
  })
})
