import { expect, it } from "vitest"
import { withPackage } from "../../../src/packages.js"
import { BACKEND_NAMES, backendByName } from "../../../src/shards/registry.js"

it("a package that cannot be loaded is named, with the command that installs it", async () => {
  const cause = new Error("no such module")
  const load = () => Promise.reject(cause)
  await expect(withPackage("better-sqlite3", "the sqlite-vec backend", load)).rejects.toMatchObject({
    tag: "Unsupported",
    message:
      'the sqlite-vec backend needs the package "better-sqlite3", which could not be loaded: npm install better-sqlite3',
    details: { package: "better-sqlite3" },
    cause,
  })
})

it("a package that is there but does not load is not to be installed once more in the same way", async () => {
  const cause = Object.assign(new Error("libc.musl: cannot open shared object\nmore"), {
    code: "ERR_DLOPEN_FAILED",
  })
  const load = () => Promise.reject(cause)
  await expect(withPackage("sqlite-vec", "the sqlite-vec backend", load)).rejects.toMatchObject({
    tag: "Unsupported",
    message:
      'the sqlite-vec backend needs the package "sqlite-vec", which is installed but does not load here (libc.musl: cannot open shared object): install it anew on this system, with this Node',
    cause,
  })
})

it.each(BACKEND_NAMES)("%s is known by its name and installed here", async (name) => {
  const backend = backendByName(name)
  expect(backend.name).toBe(name)
  await backend.assertInstalled("build")
  await backend.assertInstalled("open")
})
