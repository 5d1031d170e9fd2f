import { describe, expect, it } from "vitest"
import { parseTextVector } from "../../../src/sources/text-vectors.js"
import { inputFixture } from "../../support/paths.js"
import { failureOf, readInputs, useDirectory } from "./helpers.js"

const dir = useDirectory()
const fixture = (name: string) => inputFixture(`18-text-vector-messages/${name}`)
const rounded = (vectors: readonly number[][]) =>
  vectors.map((vector) => vector.map((x) => Number(x.toFixed(4))))

describe("vectors that are text", () => {
  it.each([
    [
      "nprepr.csv",
      [
        [0.1, 0.2],
        [0.3, -0.4],
      ],
    ],
    ["np2.csv", [[0.1, 0.2]]],
    ["pgarr.csv", [[0.1, 0.2]]],
    ["tuple.csv", [[0.1, 0.2]]],
    ["strnp.jsonl", [[0.1, 0.2]]],
  ])("of NumPy and Postgres are read: %s", async (name, expected) => {
    expect(rounded((await readInputs(fixture(name))).vectors)).toEqual(expected)
  })

  it.each([
    ["cutvec.csv", /line 3: column "vector" ends at position \d+ without "\]"; was it cut off\?$/],
    ["nanvec.csv", /line 3: column "vector" has nan at position 39, expected a finite number$/],
    [
      "nprepr_ellipsis.csv",
      /has \.\.\. at position 2, where NumPy left values out when it printed the array$/,
    ],
    ["space.csv", /is "0\.1 0\.2", expected a list of numbers, in brackets: \[0\.1, 0\.2\]$/],
  ])("say what is wrong and where: %s", async (name, message) => {
    expect((await failureOf(readInputs(fixture(name), { vectorColumn: "vector" }))).message).toMatch(message)
  })

  it.each([
    ["[1, x]", 'has "x" at position 1, expected a number'],
    ["[1, , 2]", "has nothing at position 1, expected a number"],
    ["{1,NULL}", "has null at position 1, expected a number"],
    ["{1,-inf}", "has -inf at position 1, expected a finite number"],
    ["(1", 'ends at position 0 without ")"; was it cut off?'],
    ["[", 'ends at position 0 without "]"; was it cut off?'],
    ["word", 'is "word", expected a list of numbers'],
  ])("%s", (text, problem) => {
    expect(parseTextVector(text)).toBe(problem)
  })

  it("may be empty, or hold integers of any size, which the rules for vectors judge", () => {
    expect([parseTextVector("[]"), parseTextVector("{ }"), parseTextVector(" [1e3\n -2.] ")]).toEqual([
      [],
      [],
      [1000, -2],
    ])
  })
})

describe("a column for each dimension", () => {
  it("is read where the vector column is named with a star", async () => {
    const path = await dir.write(
      "wide.csv",
      "id,emb_0,emb_1,emb_2,emb_10x,title\na,0.5,-1,2e1,z,t\nb,1,,3,z,t\n",
    )
    const { ids, vectors, payloads } = await readInputs(
      path,
      { vectorColumn: "emb_*" },
      { onBadRow: () => {} },
    )
    expect([ids, vectors, payloads]).toEqual([["a"], [[0.5, -1, 20]], ['{"emb_10x":"z","title":"t"}']])
    expect((await failureOf(readInputs(path, { vectorColumn: "emb_*" }))).message).toBe(
      `${path}, line 3: column "emb_*" has null at position 1, expected a number`,
    )
    expect((await failureOf(readInputs(path))).message).toContain(
      'has no column of vectors; its columns are "emb_0", "emb_1", "emb_2", "emb_10x", "title"; if it has a column for each dimension, name them together as the vector column: "emb_*"',
    )
    expect((await failureOf(readInputs(path, { vectorColumn: "vec*" }))).message).toContain(
      'has no column "vec*"',
    )
  })

  it("is read from JSON Lines, in the order of the numbers, from 0 or 1", async () => {
    const row = Object.fromEntries(Array.from({ length: 12 }, (_, i) => [`d${12 - i}`, 12 - i]))
    const path = await dir.write("wide.jsonl", JSON.stringify({ id: 1, ...row }))
    expect((await readInputs(path, { vectorColumn: "d*" })).vectors).toEqual([
      [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12],
    ])
  })

  it("is not taken where a number is missing", async () => {
    const path = await dir.write("holes.csv", "id,e0,e2\na,1,2\n")
    expect((await failureOf(readInputs(path, { vectorColumn: "e*" }))).message).toContain(
      'has no column "e*"',
    )
  })
})
