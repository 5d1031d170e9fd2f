import { dirname, join } from "node:path"
import ts from "typescript"
import { describe, expect, it } from "vitest"
import { readSource, typescriptFiles } from "./source-files.js"

/** What package.json offers to others: all that these files export is used. */
const PUBLIC = ["src/index.ts", "src/reader/report/prometheus.ts"]

/**
 * Stands for all names of a module: `import * as x`, `import("x")`, `export * from "x"`. Which of them are used is then told by
 * the identifiers of the importing file.
 */
const WHOLE = Symbol("all of a module")

interface Module {
  readonly exports: ReadonlySet<string>
  /** Those of the exports that are types. */
  readonly types: ReadonlySet<string>
  /** The names that this file imports, by the path of the file they come from. */
  readonly imports: ReadonlyMap<string, ReadonlySet<string | typeof WHOLE>>
  /** How often each identifier stands in this file. */
  readonly identifiers: ReadonlyMap<string, number>
}

/** What a file exports and imports; only the syntax is looked at. */
function readModule(path: string): Module {
  const exports = new Set<string>()
  const types = new Set<string>()
  const imports = new Map<string, Set<string | typeof WHOLE>>()
  const identifiers = new Map<string, number>()

  const use = (specifier: ts.Node | undefined, names: readonly (string | typeof WHOLE)[]): void => {
    if (specifier === undefined || !ts.isStringLiteral(specifier) || !specifier.text.startsWith(".")) return
    const target = join(dirname(path), specifier.text).replace(/\.js$/, ".ts")
    const known = imports.get(target) ?? new Set()
    for (const name of names) known.add(name)
    imports.set(target, known)
  }
  const exported = (node: ts.Node): boolean =>
    ts.canHaveModifiers(node) &&
    (ts.getModifiers(node)?.some(({ kind }) => kind === ts.SyntaxKind.ExportKeyword) ?? false)

  const visit = (node: ts.Node): void => {
    if (ts.isIdentifier(node)) identifiers.set(node.text, (identifiers.get(node.text) ?? 0) + 1)
    else if (ts.isVariableStatement(node) && exported(node)) {
      for (const { name } of node.declarationList.declarations) exports.add(name.getText())
    } else if (exported(node) && ts.isDeclarationStatement(node)) {
      // A default export is the entry of a worker, which is started by the name of its file.
      const isDefault = ts.getCombinedModifierFlags(node) & ts.ModifierFlags.Default
      if (node.name !== undefined && !isDefault) exports.add(node.name.getText())
      if (ts.isInterfaceDeclaration(node) || ts.isTypeAliasDeclaration(node)) types.add(node.name.text)
    } else if (ts.isExportDeclaration(node)) {
      const named =
        node.exportClause && ts.isNamedExports(node.exportClause) ? node.exportClause.elements : []
      for (const { name } of named) exports.add(name.text)
      const taken = named.map(({ name, propertyName }) => (propertyName ?? name).text)
      use(node.moduleSpecifier, named.length > 0 ? taken : [WHOLE])
    } else if (ts.isImportDeclaration(node)) {
      const bindings = node.importClause?.namedBindings
      if (bindings && ts.isNamedImports(bindings)) {
        use(
          node.moduleSpecifier,
          bindings.elements.map(({ name, propertyName }) => (propertyName ?? name).text),
        )
      } else use(node.moduleSpecifier, [node.importClause?.name ? "default" : WHOLE])
    } else if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) {
      use(node.arguments[0], [WHOLE])
    } else if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) {
      use(node.argument.literal, [WHOLE])
    }
    ts.forEachChild(node, visit)
  }
  visit(ts.createSourceFile(path, readSource(path), ts.ScriptTarget.Latest, true))
  return { exports, types, imports, identifiers }
}

const modules = new Map(
  typescriptFiles("src", "cli", "bench", "scripts", "localstack", "examples", "test").map((path) => [
    path,
    readModule(path),
  ]),
)

/** The files that use an export of another. */
function usersOf(path: string, name: string): string[] {
  return [...modules].flatMap(([user, { imports, identifiers }]) => {
    const names = imports.get(path)
    const used = names?.has(name) || (names?.has(WHOLE) && identifiers.has(name))
    return used ? [user] : []
  })
}

/** Compiled to WebAssembly, which is called by the names of its exports. */
const ASSEMBLY = "src/vectors/kernel/assembly/"

const own = [...modules].filter(
  ([path]) => /^(src|cli)\//.test(path) && !path.startsWith(ASSEMBLY) && !PUBLIC.includes(path),
)

/** What only tests of the compiled kernel ask it for: margins and scores, which its other answers are made of. */
const ONLY_TESTED = ["src/vectors/kernel.ts: nearestPoints", "src/vectors/kernel.ts: scoreMatrix"]

/** The door for strategies that are not ours. */
const OFFERED = ["src/sharding/registry.ts: strategyTypes", "src/sharding/registry.ts: registerStrategy"]

/** What search threads load by the URL of its file. */
const LOADED = ["src/manifest/shardyfusion/shards/sqlite-vec-file.ts: openShardFile"]

describe("exports", () => {
  it("are each used by another file; a type may be what another export of its file takes or gives", () => {
    const unused = own.flatMap(([path, { exports, types, identifiers }]) =>
      [...exports]
        .filter((name) => usersOf(path, name).length === 0)
        .filter((name) => !types.has(name) || identifiers.get(name) === 1)
        .map((name) => `${path}: ${name}`),
    )
    expect(unused.filter((name) => ![...OFFERED, ...LOADED].includes(name))).toEqual([])
    expect(own.flatMap(([, { exports }]) => [...exports]).length).toBeGreaterThan(500)
  })

  it("that only tests import are used in their own file: else they would be dead", () => {
    const dead = own.flatMap(([path, { exports, identifiers }]) =>
      [...exports]
        .filter((name) => identifiers.get(name) === 1)
        .filter((name) => usersOf(path, name).every((user) => user.startsWith("test/")))
        .map((name) => `${path}: ${name}`)
        .filter((name) => ![...ONLY_TESTED, ...OFFERED, ...LOADED].includes(name)),
    )
    expect(dead).toEqual([])
  })
})
