import { readdirSync, readFileSync } from "node:fs"
import { dirname, join, relative } from "node:path"
import { describe, expect, it } from "vitest"
import { fromRoot } from "../support/paths.js"

/**
 * Layers from the ground up; a file may import from its own folder and from layers below, not from a neighbour in its
 * layer. Modules that stand alone in src/ are the ground: errors, records, json, logger, version.
 */
const LAYERS = [
  ["src"],
  ["async"],
  ["storage", "vectors"],
  ["sources", "shards", "sharding"],
  ["recall"],
  ["snapshot"],
  ["manifest"],
  ["writer", "reader", "maintenance"],
  ["release"],
  ["cli"],
]

/** Neighbours that may be imported all the same, for a reason that is given here. */
const ALLOWED = new Set<string>([
  // The true neighbours of queries are found among the rows of a snapshot's shards.
  "recall -> snapshot",
])

const folderOf = (path: string): string => {
  const [top, second, third] = path.split("/")
  if (top === "cli") return "cli"
  return third === undefined ? "src" : second!
}
const layerOf = (folder: string): number => LAYERS.findIndex((layer) => layer.includes(folder))

function importsOf(path: string): string[] {
  const text = readFileSync(fromRoot(path), "utf8")
  return Array.from(text.matchAll(/(?:from|import)\s*\(?\s*"(\.[^"]+)"/g), ([, target]) =>
    relative(fromRoot(), join(fromRoot(dirname(path)), target!)).replace(/\.js$/, ".ts"),
  )
}

const sources = ["src", "cli"].flatMap((top) =>
  readdirSync(fromRoot(top), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts"))
    .map((name) => `${top}/${name}`),
)

/** All files that importing these loads: what is imported by `import()` is loaded later, if at all, and types never are. */
function loadedBy(roots: readonly string[]): ReadonlySet<string> {
  const loaded = new Set<string>()
  const waiting = [...roots]
  for (let path = waiting.pop(); path !== undefined; path = waiting.pop()) {
    if (loaded.has(path)) continue
    loaded.add(path)
    const text = readFileSync(fromRoot(path), "utf8")
    for (const [, names, target] of text.matchAll(STATIC_IMPORT)) {
      if (isOfTypes(names ?? "")) continue
      waiting.push(relative(fromRoot(), join(fromRoot(dirname(path)), target!)).replace(/\.js$/, ".ts"))
    }
  }
  return loaded
}
const STATIC_IMPORT = /^(?:import|export)\s+(?:([^"';()]*?)\s+from\s+)?"(\.[^"]+)"/gm
/** `type {…}`, or braces with nothing in them but types. */
const isOfTypes = (names: string): boolean =>
  /^type\s/.test(names) || /^\{(\s*type\s[^,]+,?)+\s*\}$/.test(names)

describe("imports", () => {
  it("go one way, from a layer to those below it", () => {
    const wrong: string[] = []
    for (const source of sources) {
      const from = folderOf(source)
      if (source === "src/index.ts") continue
      for (const target of importsOf(source)) {
        if (target === "src/index.ts" && from === "cli") continue
        const to = folderOf(target)
        const fine = from === to || layerOf(to) < layerOf(from) || ALLOWED.has(`${from} -> ${to}`)
        if (!fine) wrong.push(`${source} imports ${target}`)
      }
    }
    expect(wrong).toEqual([])
    expect(sources.length).toBeGreaterThan(30)
  })

  it("place every folder of src in a layer", () => {
    expect([...new Set(sources.map(folderOf))].filter((folder) => layerOf(folder) === -1)).toEqual([])
  })

  it("of what queries need load nothing that only builds need", () => {
    const LAYOUT = "src/sharding/cluster/layout/"
    const isIn = (...folders: string[]) =>
      sources.filter((path) => folders.some((folder) => path.startsWith(folder)))
    const readers = isIn("src/reader/", "src/sharding/cluster/routing/", "src/sharding/cluster/space/")
    const loaded = loadedBy([...readers, "src/sharding/cluster/strategy.ts", "src/sharding/route.ts"])
    expect([...loaded].filter((path) => path.startsWith(LAYOUT) || path.startsWith("src/writer/"))).toEqual(
      [],
    )
    expect(loaded).toContain("src/sharding/registry.ts")
    expect(loadedBy(["src/writer/layout/input.ts"])).toContain(`${LAYOUT}layout.ts`)
  })
})
