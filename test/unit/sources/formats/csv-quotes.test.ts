import fc from "fast-check"
import { describe, expect, it } from "vitest"
import { openSource } from "../../../../src/sources/open.js"
import { failureOf, inputFixture, readInputs, readSkipping, useDirectory } from "../helpers.js"

const dir = useDirectory()

const read = async (text: string) => readSkipping(await openSource(await dir.write("x.csv", text)))
const places = (bad: readonly string[]) =>
  bad.map((message) => message.replace(/^.*?, (line \d+): .*$/, "$1"))

describe("a stray quote in CSV", () => {
  it.each([
    ["stray1.csv", [1, 2, 4, 5, 6, 7, 8, 9, 10], [4]],
    ["stray2.csv", [1, 2, 4, 5, 6, 7, 9, 10], [4, 9]],
    ["stray3.csv", [1, 2, 4, 5, 6, 7, 9, 10], [4, 9]],
    ["tsvq.tsv", [2, 4], [2, 4]],
  ])("in %s is the fault of its row alone", async (name, ids, lines) => {
    const path = inputFixture(`csv-stray-quote/${name}`)
    const rows = await readSkipping(await openSource(path))
    expect(rows.ids).toEqual(ids.map(BigInt))
    expect(rows.bad).toEqual(
      lines.map((line) => `${path}, line ${line}: has a quote within a cell that does not start with one`),
    )
    expect(await failureOf(readInputs(path))).toMatchObject({
      tag: "InvalidInput",
      details: { row: lines[0] },
    })
  })

  it("that opens a cell and is never closed leaves the rows after it, to the end of the file", async () => {
    const { ids, rowNumbers, bad } = await read('id,t,vector\n1,"5 pipe,[1]\n2,a,[2]\n\n3,b,[3]')
    expect(ids).toEqual([2n, 3n])
    expect(rowNumbers).toEqual([3, 5])
    expect(bad).toEqual([expect.stringMatching(/, line 2: a quote opens there that is never closed$/)])
  })

  it("that opens a cell leaves the rows after it, though their quotes look like its end", async () => {
    const { ids, vectors, bad } = await read('id,t,vector\n1,"5 pipe,[1]\n2,a,"[2,2]"\n3,"6 pipe","[3,3]"\n')
    expect(ids).toEqual([2n, 3n])
    expect(vectors).toEqual([
      [2, 2],
      [3, 3],
    ])
    expect(bad).toEqual([
      expect.stringMatching(
        /, line 2: a quote opens there, but on line 3 it has "\[" after the closing quote of a cell, expected ","$/,
      ),
    ])
  })

  it("leaves the rows that it would make cells of a row that is too short", async () => {
    const { ids, bad } = await read('id,t,vector\n1,"5 pipe,[1]\n2,a,[2]\n3,b,[3]\n4,6"\n5,c,[5]\n')
    expect(ids).toEqual([2n, 3n, 5n])
    expect(places(bad)).toEqual(["line 2", "line 5"])
  })

  it("is one bad row, whatever lines its other cells take", async () => {
    const { ids, bad } = await read('id,t,u,vector\n1,5" pipe,"two\nlines",[1]\n2,"a\r\nb",,[2]\n')
    expect(ids).toEqual([2n])
    expect(places(bad)).toEqual(["line 2"])
  })

  it("in every row takes no more than time in proportion, and no row besides", async () => {
    const rows = Array.from({ length: 20_000 }, (_, i) => (i % 2 ? `${i},"",[1]` : `${i},"open,[1]`))
    const { ids, bad } = await read(`id,t,vector\n${rows.join("\n")}\n`)
    expect(ids).toHaveLength(10_000)
    expect(bad).toHaveLength(10_000)
  })

  it("never costs a good row, wherever it stands", async () => {
    const word = fc.constantFrom("a", "b c", 'say ""x""', "one\ntwo", "x,y", "1;2", "\r\n", "ü")
    const good = fc.tuple(fc.boolean(), word, fc.boolean()).map(([isQuoted, text, isVectorQuoted]) => {
      const plain = /[",\r\n]/.test(text) || isQuoted ? `"t${text}"` : text
      return { cells: [plain, isVectorQuoted ? '"[1,2]"' : "[1]"], bad: false }
    })
    const stray = fc
      .constantFrom('5" pipe', '"5 pipe', 'pipe 5"', '"a" b', '"a"b"', 'a""b', '"""', '"a""')
      .map((cell) => ({ cells: [cell, "[1]"], bad: true }))
    await fc.assert(
      fc.asyncProperty(fc.array(fc.oneof(good, stray), { minLength: 1, maxLength: 12 }), async (rows) => {
        let line = 2
        const starts = rows.map(({ cells }) => {
          const start = line
          line += cells.join().split("\n").length
          return start
        })
        const text = rows.map(({ cells }, i) => `${i},${cells.join(",")},"z"`).join("\n")
        const found = await readSkipping(
          await openSource(await dir.write("any.csv", `id,t,v,z\n${text}\n`), { vectorColumn: "z" }),
        )
        // No z is a vector: so that every row is told, and where.
        expect(found.ids).toEqual([])
        expect(found.bad.map((message) => Number(/line (\d+):/.exec(message)?.[1]))).toEqual(starts)
        for (const [i, { bad }] of rows.entries())
          expect(/column "z"/.test(found.bad[i]!), JSON.stringify(rows[i])).toBe(!bad)
      }),
      { numRuns: 200 },
    )
  })
})
