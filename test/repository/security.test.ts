/** docs/security.md claims nothing without a test. That the tests it names exist, files.test.ts checks. */
import { expect, it } from "vitest"
import { readSource } from "./source-files.js"

const page = readSource("docs/security.md")

/** The lines of a section, without its title. */
function section(title: string): string {
  const start = page.indexOf(`\n## ${title}\n`)
  expect(start, title).toBeGreaterThan(0)
  const end = page.indexOf("\n## ", start + 1)
  return page.slice(start, end === -1 ? undefined : end)
}

const TEST = /`test\/[\w/.-]+\.test\.ts`/

it("what writers of a bucket can and cannot do names a test for each claim", () => {
  const claims = section("What somebody who writes to the bucket can do")
    .split(/\n(?=- )/)
    .slice(1)
  expect(claims.length).toBeGreaterThan(15)
  expect(claims.filter((claim) => !TEST.test(claim))).toEqual([])
})

it.each([
  "Altered snapshots",
  "Roots that are not trusted",
  "Signatures",
  "Secrets",
  "Local directories",
  "SQL of a build",
])("the section %s names its tests", (title) => {
  expect(section(title)).toMatch(TEST)
})
it("no case of the fuzzer ended badly", () => {
  const rows = section("Altered snapshots")
    .split("\n")
    .filter((line) => /^\| [\w, ]+(\| +\d+ )+\|$/.test(line))
  expect(rows.length).toBeGreaterThan(5)
  for (const row of rows) {
    const cells = row.split("|").map((cell) => cell.trim())
    expect(cells.slice(-5, -1), row).toEqual(["0", "0", "0", "0"])
  }
})
