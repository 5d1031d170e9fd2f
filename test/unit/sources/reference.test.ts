import { readFileSync } from "node:fs"
import { describe, expect, it } from "vitest"
import { parseJson } from "../../../src/json.js"
import {
  formatByName,
  formatBySharedName,
  formatNamed,
  SOURCE_FORMATS,
} from "../../../src/sources/registry.js"
import { fromRoot, inputFixture } from "../../support/paths.js"
import { readInputs } from "./helpers.js"

interface Expected {
  readonly file: string
  readonly ids: readonly string[]
  readonly vectors: readonly (readonly number[])[]
  readonly payloads: readonly unknown[]
}

const files = readFileSync(inputFixture("reference/expected.jsonl"), "utf8")
  .trimEnd()
  .split("\n")
  .map((line) => parseJson(line) as unknown as Expected)

// By scripts/check-inputs.py, which compares hundreds of them.
describe("files of pyarrow, DuckDB and NumPy", () => {
  it.each(files.map((file) => [file.file, file] as const))(
    "%s holds what was written",
    async (name, expected) => {
      const { ids, vectors, payloads } = await readInputs(inputFixture(`reference/${name}`))
      expect(ids.map(String)).toEqual(expected.ids)
      expect(vectors).toEqual(expected.vectors)
      expect(payloads.map((text) => text && parseJson(text))).toEqual(expected.payloads)
    },
  )
})

describe("the registry of formats", () => {
  it("has each ending once", () => {
    for (const name of SOURCE_FORMATS) {
      const format = formatNamed(name)
      for (const extension of format.extensions) expect(formatByName(`a.${extension}`)).toBe(format)
      for (const extension of format.sharedExtensions ?? []) {
        expect(formatByName(`a.${extension}`)).toBeUndefined()
        expect(formatBySharedName(`a.${extension}`)).toBe(format)
      }
    }
  })

  it("is what docs/inputs.md lists, with all endings", () => {
    const page = readFileSync(fromRoot("docs/inputs.md"), "utf8")
    const rows = page.split("\n").filter((line) => line.startsWith("| `"))
    for (const name of SOURCE_FORMATS) {
      const { extensions, sharedExtensions = [] } = formatNamed(name)
      const row = rows.find((line) => line.split("|")[1]!.includes(`\`${name}\``))
      for (const extension of [...extensions, ...sharedExtensions]) expect(row).toContain(`\`.${extension}\``)
    }
  })
})
