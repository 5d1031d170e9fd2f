import ts from "typescript"
import { expect, it } from "vitest"
import { readSource, typescriptFiles } from "./source-files.js"

/** What callers write as an object: options by their names, and these. */
const GIVEN = /(Options|Settings|Credentials|Encryption|Bounds)$|^VectorRecord$/

/**
 * Under `exactOptionalPropertyTypes`, `{ k?: number }` refuses `{ k: undefined }`, which is what callers have
 * who hand an option of their own on.
 */
it("every optional property of what callers give may be undefined", () => {
  const strict = typescriptFiles("src").flatMap((path) => {
    const file = ts.createSourceFile(path, readSource(path), ts.ScriptTarget.Latest, true)
    return file.statements
      .filter((statement) => ts.isInterfaceDeclaration(statement) || ts.isTypeAliasDeclaration(statement))
      .filter(({ name }) => GIVEN.test(name.text))
      .flatMap((declaration) =>
        optionalProperties(declaration)
          .filter(({ type }) => type === undefined || !mayBeUndefined(type))
          .map((property) => `${path}: ${declaration.name.text}.${property.name.getText()}`),
      )
  })
  expect(strict).toEqual([])
})

function optionalProperties(node: ts.Node): readonly ts.PropertySignature[] {
  const found: ts.PropertySignature[] = []
  const visit = (inner: ts.Node): void => {
    if (ts.isPropertySignature(inner) && inner.questionToken !== undefined) found.push(inner)
    ts.forEachChild(inner, visit)
  }
  visit(node)
  return found
}

const mayBeUndefined = (type: ts.TypeNode): boolean =>
  type.kind === ts.SyntaxKind.UndefinedKeyword ||
  (ts.isUnionTypeNode(type) && type.types.some(mayBeUndefined))
