import { homedir } from "node:os"
import { join } from "node:path"
import { afterEach, describe, expect, it, vi } from "vitest"
import { checkOptions } from "../../../src/reader/options.js"

afterEach(() => {
  vi.unstubAllEnvs()
})

describe("options of a reader", () => {
  it("have defaults", () => {
    vi.stubEnv("XDG_CACHE_HOME", "/caches")
    expect(checkOptions({})).toEqual({
      cacheDir: join("/caches", "vecsnap"),
      maxOpenShards: 256,
      concurrency: 64,
      maxQueued: 1000,
      queueTimeoutMs: 10_000,
    })
    vi.stubEnv("XDG_CACHE_HOME", undefined)
    expect(checkOptions({}).cacheDir).toBe(join(homedir(), ".cache", "vecsnap"))
  })

  it("are taken as they are given", () => {
    const bounds = { cacheDir: "/here", maxOpenShards: 1, concurrency: 1, maxQueued: 0, queueTimeoutMs: 1 }
    expect(checkOptions({ ...bounds, timeoutMs: 1, maxAgeSeconds: 0.5, snapshot: "abc" })).toEqual(bounds)
  })

  it.each([
    [{ maxOpenShards: 0 }, "maxOpenShards"],
    [{ concurrency: 1.5 }, "concurrency"],
    [{ queueTimeoutMs: 0 }, "queueTimeoutMs"],
    [{ timeoutMs: Number.NaN }, "timeoutMs"],
    [{ maxAgeSeconds: 0 }, "maxAgeSeconds"],
    [{ cacheBytes: 0 }, "cacheBytes"],
    [{ snapshot: "abc", autoRefresh: { everySeconds: 60 } }, "autoRefresh does not go with option snapshot"],
  ])("refuse %o, by name", (options, name) => {
    expect(() => checkOptions(options)).toThrow(
      expect.objectContaining({ tag: "InvalidInput", message: expect.stringContaining(name) }),
    )
  })
})
