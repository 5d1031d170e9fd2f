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

it.each(BACKEND_NAMES)("%s is known by its name and installed here", async (name) => {
  const backend = backendByName(name)
  expect(backend.name).toBe(name)
  await backend.assertInstalled("build")
  await backend.assertInstalled("open")
})
