import { readFileSync } from "node:fs"
import { describe, expect, it } from "vitest"
import { fromRoot } from "../support/paths.js"
import { changed, MUTANTS } from "./mutations.js"

describe("what mutants.js takes out", () => {
  it.each(MUTANTS)("is still there, once: $name", (mutant) => {
    const code = readFileSync(fromRoot("dist", mutant.file), "utf8")
    expect(changed(code, mutant)).not.toBe(code)
  })

  it("has a row each in docs/simulation.md", () => {
    const page = readFileSync(fromRoot("docs/simulation.md"), "utf8")
    const rows = Array.from(page.matchAll(/^\| ([^|]+?) +\|/gm), ([, name]) => name)
    expect(rows).toEqual(expect.arrayContaining(MUTANTS.map(({ name }) => name)))
  })
})
