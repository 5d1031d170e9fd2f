import { randomUUID } from "node:crypto"
import { describe, expect, it } from "vitest"
import { openStore } from "../../../src/storage/open.js"
import { createCounts } from "../../../src/storage/with-counting.js"

describe("openStore", () => {
  it("names the store as the user did, without a trailing slash", () => {
    for (const url of ["s3://bucket/prefix", "memory://name", "file:///tmp/x", "./relative"]) {
      expect(openStore(url).url).toBe(url)
      expect(openStore(`${url}/`).url).toBe(url)
    }
  })

  it("counts attempts where asked to", async () => {
    const counts = createCounts()
    const store = openStore(`memory://${randomUUID()}`, { counts })
    await store.put("key", new Uint8Array(3))
    await store.get("key")
    await store.get("key", { range: { start: 0, end: 1 } })
    expect(counts).toMatchObject({ put: 1, get: 2, bytesWritten: 3, bytesRead: 4, failed: 0 })
  })
})
