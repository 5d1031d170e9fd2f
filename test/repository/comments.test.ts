import { describe, expect, it } from "vitest"
import { commentLines, readSource, typescriptFiles } from "./source-files.js"

/** That of the formatter, which leaves comments alone. */
const WIDTH = 110

describe("comments", () => {
  it(`are no wider than ${WIDTH} columns, as code is`, () => {
    const wide = typescriptFiles("src", "cli", "bench").flatMap((path) =>
      commentLines(readSource(path))
        .filter(({ text }) => text.length > WIDTH)
        .map(({ line, text }) => `${path}:${line}: ${text.length} columns`),
    )
    expect(wide).toEqual([])
  })

  it("are told from code", () => {
    const source = ["/** a", " * b", " */", 'const url = "http://c" // d', "const e = 2 ** f", "// g"].join(
      "\n",
    )
    expect(commentLines(source).map(({ line, says }) => [line, says.trim()])).toEqual([
      [1, "* a"],
      [2, "b"],
      [3, "/"],
      [4, "d"],
      [6, "g"],
    ])
  })
})
