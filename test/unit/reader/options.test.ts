import { mkdirSync } from "node:fs"
import { stat } from "node:fs/promises"
import { join } from "node:path"
import { afterEach, describe, expect, it, vi } from "vitest"
import { checkOptions } from "../../../src/reader/options.js"
import { withTempDir } from "../../support/stores.js"

describe("audits", () => {
  it.each([
    [{ audit: { share: -0.1 } }, "option audit.share is -0.1, expected a number from 0 to 1"],
    [{ audit: { share: 1.1 } }, "option audit.share is 1.1, expected a number from 0 to 1"],
    [{ audit: { share: Number.NaN } }, "option audit.share is NaN"],
    [{ audit: { minPerHour: -1 } }, "option audit.minPerHour is -1, expected a number from 0 to 3600"],
    [{ audit: { minPerHour: 3601 } }, "option audit.minPerHour is 3601"],
    [{ audit: {}, auditFile: "q.npy" }, "option auditFile is q.npy, expected a name that ends in .fvecs"],
    [{ audit: {}, auditFile: "s3://b/q.fvecs" }, "auditFile"],
    [{ auditFile: "q.fvecs" }, "option auditFile takes the option audit"],
    [{ audit: {}, auditFile: "q.fvecs", auditFileBytes: 0 }, "auditFileBytes"],
  ])("cannot be %j", (options, problem) => {
    expect(() => checkOptions(options)).toThrow(problem)
  })

  it("may have any bounds", () => {
    const bounds = [{}, { share: 0, minPerHour: 0 }, { share: 1, minPerHour: 3600 }]
    for (const audit of bounds) checkOptions({ audit, auditFile: "q.fvecs", auditFileBytes: 1 })
  })
})

describe("the default cache directory", () => {
  afterEach(() => vi.unstubAllEnvs())

  it.each([
    ["/caches", "/home/me", "/caches/vecsnap"],
    [undefined, "/home/me", "/home/me/.cache/vecsnap"],
    // Neither is a place: it would be the working directory.
    ["", "/home/me", "/home/me/.cache/vecsnap"],
    ["caches", "/home/me", "/home/me/.cache/vecsnap"],
  ])("with XDG_CACHE_HOME %j and HOME %j is %s", (cache, home, expected) => {
    vi.stubEnv("XDG_CACHE_HOME", cache)
    vi.stubEnv("HOME", home)
    expect(checkOptions({}).cacheDir).toBe(expected)
  })

  it("of a user without a home is a directory of their own among the temporary files", () =>
    withTempDir(async (dir) => {
      vi.stubEnv("XDG_CACHE_HOME", "")
      vi.stubEnv("HOME", "")
      vi.stubEnv("TMPDIR", dir)
      const expected = join(dir, `vecsnap-cache-of-${process.getuid?.()}`)
      expect(checkOptions({}).cacheDir).toBe(expected)
      expect((await stat(expected)).mode & 0o777).toBe(0o700)
      expect(checkOptions({}).cacheDir).toBe(expected)
    }))

  it("is not one that others could have filled", () =>
    withTempDir(async (dir) => {
      vi.stubEnv("XDG_CACHE_HOME", "")
      vi.stubEnv("HOME", "")
      vi.stubEnv("TMPDIR", dir)
      const planted = join(dir, `vecsnap-cache-of-${process.getuid?.()}`)
      mkdirSync(planted)
      await import("node:fs/promises").then(({ chmod }) => chmod(planted, 0o777))
      expect(() => checkOptions({})).toThrow(/is not ours alone; choose one with cacheDir$/)
    }))
})
