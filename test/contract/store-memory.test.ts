import { randomUUID } from "node:crypto"
import { describe, expect, it } from "vitest"
import { openMemoryStore } from "../../src/storage/memory.js"
import { createRetry } from "../../src/storage/retry.js"
import { createCounts, withCounting } from "../../src/storage/with-counting.js"
import { withLimit } from "../../src/storage/with-limit.js"
import { withRetry } from "../../src/storage/with-retry.js"
import { bytes, storeContract, text } from "./store-suite.js"

storeContract("memory", () => openMemoryStore(randomUUID()), { largeBytes: [3_000_000] })

storeContract("memory, wrapped by retry, limit and counting", () => {
  const store = openMemoryStore(randomUUID())
  return withRetry(withLimit(withCounting(store, createCounts()), 3), createRetry())
})

describe("memory store", () => {
  it("shares its objects with whoever opens the same name", async () => {
    const name = randomUUID()
    await openMemoryStore(name).put("key", bytes("value"))
    expect(text((await openMemoryStore(name).get("key"))?.body)).toBe("value")
    expect(await openMemoryStore(`${name}-other`).get("key")).toBeUndefined()
  })

  it("changes the ETag with each write, of equal content too", async () => {
    const store = openMemoryStore(randomUUID())
    const first = await store.put("key", bytes("same"))
    const second = await store.put("key", bytes("same"))
    expect(second.etag).not.toBe(first.etag)
  })

  it("copies Buffers", async () => {
    const store = openMemoryStore(randomUUID())
    const body = Buffer.from("abc")
    await store.put("key", body)
    body[0] = 0
    expect(text((await store.get("key"))?.body)).toBe("abc")
  })
})
