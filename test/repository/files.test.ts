import { dirname, join, normalize } from "node:path"
import { describe, expect, it } from "vitest"
import { commentLines, readSource, repositoryFiles, typescriptFiles } from "./source-files.js"

const FILES = repositoryFiles()
const FOLDERS = new Set(FILES.flatMap((path) => parents(path)))
const OURS = ["src", "cli", "test", "bench", "scripts", "localstack", "examples", "docs", "data", "dist"]

/** Made by commands, so that git does not have them. */
const MADE = ["dist/src/vectors/kernel/kernel.wasm"]

function parents(path: string): string[] {
  const parent = dirname(path)
  return parent === "." ? [] : [parent, ...parents(parent)]
}

/** Names of files in a text: paths below a folder of ours, and TypeScript files by the end of their path. */
function namedFiles(text: string): string[] {
  const paths = text.matchAll(
    new RegExp(String.raw`(?<![\w./:-])(?:${OURS.join("|")})/[\w./*{},-]*[\w*}/]`, "g"),
  )
  const sources = text.matchAll(/(?<![\w./*{},-])[\w./*-]+\.ts\b/g)
  return [...new Set([...paths, ...sources].map(([name]) => name.replace(/^(?:\.\.?\/)+/, "")))]
}

/**
 * Whether there is such a file or folder; `*` stands for any name, and compiled files stand for their
 * sources.
 */
function exists(name: string): boolean {
  const path = name.replace(/\/$/, "")
  if (MADE.includes(path)) return true
  const source = path.replace(/^dist\//, "")
  const [top] = source.split("/")
  const pattern = source
    .replace(/\.js$/, ".@s")
    .replace(/[.+?^$()|[\]\\]/g, "\\$&")
    .replace(/\*+/g, "[^/]*")
    .replace("@s", "[jt]s")
    .replace(/\{([^}]*)\}/g, (_, names: string) => `(?:${names.replaceAll(",", "|")})`)
  const whole = new RegExp(OURS.includes(top!) ? `^${pattern}(?:\\.ts)?$` : `(?:^|/)${pattern}$`)
  return (
    path === "dist" ||
    FILES.some((file) => whole.test(file)) ||
    [...FOLDERS].some((folder) => whole.test(folder))
  )
}

describe("files that are named", () => {
  const documents = FILES.filter((path) => path.endsWith(".md") && path !== "CHANGELOG.md")

  it.each(documents)("in %s exist", (document) => {
    const text = readSource(document)
    const links = Array.from(text.matchAll(/\]\(([^)#:\s]+)(?:#[^)]*)?\)/g), ([, target]) => target!)
    const lost = links
      .map((target) => normalize(join(dirname(document), target)).replace(/\/$/, ""))
      .filter((path) => !FILES.includes(path) && !FOLDERS.has(path))
    expect([...lost, ...namedFiles(text).filter((name) => !exists(name))]).toEqual([])
  })

  it("in comments exist", () => {
    const sources = typescriptFiles("src", "cli", "bench", "scripts", "localstack", "examples", "test")
    const lost = sources.flatMap((path) =>
      commentLines(readSource(path)).flatMap(({ line, says }) =>
        namedFiles(says)
          .filter((name) => !exists(name) && !exists(normalize(join(dirname(path), name))))
          .map((name) => `${path}:${line}: ${name}`),
      ),
    )
    expect(lost).toEqual([])
  })

  it("are found, and told from those that are missing", () => {
    expect(namedFiles("see `src/index.ts`, docs/format.md and top.k.ts, not a/b.js")).toEqual([
      "src/index.ts",
      "docs/format.md",
      "top.k.ts",
    ])
    expect(["src/index.ts", "index.ts", "dist/cli/main.js", "src/*/open.ts"].every(exists)).toBe(true)
    expect(["src/indices.ts", "indices.ts", "dist/cli/menu.js", "docs/"].map(exists)).toEqual([
      false,
      false,
      false,
      true,
    ])
  })
})

/** Tests of several sources at once, by what these have in common. */
const ACROSS = [
  "manifest/hostile", // all documents
  "servers/s3-behaviour", // whatever S3 server this run has
  "maintenance/hostile", // all that looks at a whole root
  "shards/hostile", // the files of both backends
  "shards/packages", // the packages of both backends
  "sources/containers", // formats of vectors alone
  "sources/directories", // inputs of all formats
  "sources/packages", // the packages of all formats
  "sources/packed-vectors", // bytes, from files, records and queries
  "sources/parquet", // what DuckDB reads, from the file to the rows
  "sources/reference", // files of the reference writers, and the page of formats
  "sources/row-failures", // all formats
  "sources/text", // CSV and JSON Lines
  "storage/wrappers", // all that wrap a store
]

describe("unit tests", () => {
  it("lie where their source does, under its name, or its name and what they test of it", () => {
    const tests = FILES.filter((path) => path.startsWith("test/unit/") && path.endsWith(".test.ts"))
    const homes = [...FILES.filter((path) => path.endsWith(".ts")), ...FOLDERS]
      .filter((path) => /^(src|cli|test\/servers|localstack)\//.test(path))
      .map((path) => path.replace(/^src\//, "").replace(/^(?:test\/servers|localstack)\//, "servers/"))
      .map((path) => path.replace(/\.ts$/, ""))
    const stray = tests
      .map((path) => path.slice("test/unit/".length).replace(/(\.slow)?\.test\.ts$/, ""))
      .filter((name) => !ACROSS.includes(name))
      .filter((name) => !homes.some((home) => name === home || name.startsWith(`${home}-`)))
    expect(stray).toEqual([])
    expect(tests.length).toBeGreaterThan(70)
  })
})
