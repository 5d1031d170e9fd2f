import { readdirSync, readFileSync } from "node:fs"
import ts from "typescript"
import { describe, expect, it } from "vitest"
import { BACKEND_NAMES, STRATEGY_NAMES } from "../../src/index.js"
import { fromRoot } from "../support/paths.js"

/**
 * Another strategy, or backend, is one folder or file and a line in its registry. That stays so only as long as nothing else
 * decides by the name of one: what differs is a trait of the type, which all have.
 */
const RULES = [
  { what: "strategy", names: STRATEGY_NAMES, home: "src/sharding/" },
  { what: "backend", names: BACKEND_NAMES, home: "src/shards/" },
] as const

/** Places that name one all the same, each with its reason. */
const ALLOWED = new Map([["cli/commands/demo.ts: cluster", "the demonstration is of the strategy cluster"]])

/** Formats of others, whose names for strategies and backends are mapped to ours. */
const FOREIGN = ["src/manifest/shardyfusion/"]

/** Texts of a file that are one of the names as a whole: what is said in comments and sentences is not looked at. */
function namesIn(text: string, names: readonly string[]): readonly { name: string; line: number }[] {
  const file = ts.createSourceFile("a.ts", text, ts.ScriptTarget.Latest, true)
  const found: { name: string; line: number }[] = []
  const visit = (node: ts.Node): void => {
    if (ts.isStringLiteralLike(node) && names.includes(node.text))
      found.push({ name: node.text, line: file.getLineAndCharacterOfPosition(node.getStart()).line + 1 })
    ts.forEachChild(node, visit)
  }
  visit(file)
  return found
}

const sources = ["src", "cli"].flatMap((top) =>
  readdirSync(fromRoot(top), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts"))
    .map((name) => `${top}/${name}`),
)

describe.each(RULES)("the name of a $what", ({ what, names, home }) => {
  it(`is written in ${home} only`, () => {
    const wrong: string[] = []
    for (const source of sources) {
      if ([home, ...FOREIGN].some((folder) => source.startsWith(folder))) continue
      for (const { name, line } of namesIn(readFileSync(fromRoot(source), "utf8"), names)) {
        if (!ALLOWED.has(`${source}: ${name}`))
          wrong.push(`${source}:${line} names the ${what} "${name}"; decide by a trait of its type`)
      }
    }
    expect(wrong).toEqual([])
    expect(sources.length).toBeGreaterThan(100)
  })

  it("is found wherever it is compared, and not in what people read", () => {
    const [name] = names
    const code = (quote: string) =>
      `// "${name}"\nif (a.b === ${quote}${name}${quote}) throw "the ${name} failed"`
    for (const quote of ['"', "'", "`"]) expect(namesIn(code(quote), names)).toEqual([{ name, line: 2 }])
    expect(namesIn(`switch (x) { case "${name}": }\nconst s = new Set(["${name}"])`, names)).toHaveLength(2)
    expect(namesIn(`type A = "${name}"`, names)).toHaveLength(1)
  })
})

it("every exception is needed", () => {
  const names = RULES.flatMap(({ names }) => [...names])
  for (const place of ALLOWED.keys()) {
    const [source, name] = place.split(": ") as [string, string]
    const found = namesIn(readFileSync(fromRoot(source), "utf8"), names)
    expect(found.map((one) => one.name)).toContain(name)
  }
})
