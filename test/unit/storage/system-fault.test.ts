import { existsSync } from "node:fs"
import { mkdir, open, readdir, readFile, rename, rm, writeFile } from "node:fs/promises"
import { connect } from "node:net"
import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { errorFromWire, errorToWire, notFound, type VecsnapError } from "../../../src/errors.js"
import { asTagged } from "../../../src/storage/system-fault.js"
import { withTempDir } from "../../support/stores.js"

const failureOf = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => undefined,
    (error: unknown) => error,
  )
const told = (error: unknown, about?: string) => {
  const { tag, message, details } = asTagged(error, about) as VecsnapError
  return { tag, message, details }
}

describe("an error of the system", () => {
  it("names what was tried, its path and what was wrong", () =>
    withTempDir(async (dir) => {
      const file = join(dir, "file")
      await writeFile(file, "x")
      // Tried one after the other: what fails while nobody waits for it would be an unhandled rejection.
      const cases: readonly (readonly [() => Promise<unknown>, object])[] = [
        [
          () => readFile(join(dir, "none")),
          {
            tag: "Unavailable",
            message: `cannot open ${dir}/none: no such file or directory`,
            details: { lasting: true },
          },
        ],
        [
          () => readdir(join(file, "in")),
          {
            tag: "InvalidInput",
            message: `cannot list ${file}/in: a part of its path is a file, not a directory`,
          },
        ],
        [() => mkdir(file), { tag: "InvalidInput", message: `cannot make ${file}: it exists already` }],
        [() => rm(join(dir, "gone")), { message: `cannot look at ${dir}/gone: no such file or directory` }],
        [
          () => rename(file, join(dir, "no", "where")),
          { message: `cannot rename ${file} to ${dir}/no/where: no such file or directory` },
        ],
        [
          () => open(join(dir, "n".repeat(300))),
          {
            tag: "InvalidInput",
            message: expect.stringContaining("a part of its path is too long for the file system"),
          },
        ],
      ]
      for (const [attempt, expected] of cases)
        expect(told(await failureOf(attempt()))).toMatchObject(expected)
    }))

  it.skipIf(!existsSync("/dev/full"))("that names no path says what was done", async () => {
    const handle = await open("/dev/full", "w")
    const error = await failureOf(handle.write("x"))
    await handle.close()
    expect(told(error, "a build")).toEqual({
      tag: "Unavailable",
      message: "a build fails for a reason of the machine: ENOSPC: no space left on device, write",
      details: { code: "ENOSPC" },
    })
  })

  it("of a connection names the address", async () => {
    const error = await new Promise((resolve) => connect(1, "127.0.0.1").once("error", resolve))
    expect(told(error)).toMatchObject({
      tag: "Unavailable",
      message: "cannot connect 127.0.0.1:1: ECONNREFUSED",
    })
  })

  it("has its tag also where it comes from another thread", async () => {
    const error = errorFromWire(errorToWire(await failureOf(readFile("/nowhere/at/all"))))
    expect(told(error)).toMatchObject({
      tag: "Unavailable",
      message: "cannot use /nowhere/at/all: no such file or directory",
    })
  })
})

describe("what a database says", () => {
  it.each([
    [Object.assign(new Error("database or disk is full"), { code: "SQLITE_FULL" }), "ENOSPC"],
    [Object.assign(new Error("disk I/O error"), { code: "SQLITE_IOERR_SHMOPEN" }), "EIO"],
    [Object.assign(new Error("unable to open database file"), { code: "SQLITE_CANTOPEN" }), "EMFILE"],
    [new Error("lance error: LanceError(IO): Too many open files (os error 24)"), "EMFILE"],
    [new Error('IO Error: Could not write file "x": No space left on device'), "ENOSPC"],
  ])("%s is of the machine", (error, code) => {
    expect(told(error, "a search")).toEqual({
      tag: "Unavailable",
      message: `a search fails for a reason of the machine: ${error.message}`,
      details: { code },
    })
  })

  it("about permissions lasts", () => {
    expect(told(new Error("Permission denied (os error 13)")).details).toEqual({
      code: "EACCES",
      lasting: true,
    })
  })
})

it("any other error stays what it is", () => {
  const others = [
    notFound("no snapshot"),
    new TypeError("x is not a function"),
    Object.assign(new Error("bad argument"), { code: "ERR_INVALID_ARG_VALUE" }),
    Object.assign(new Error("malformed"), { code: "SQLITE_CORRUPT" }),
    "a text",
    undefined,
  ]
  for (const error of others) expect(asTagged(error)).toBe(error)
})
