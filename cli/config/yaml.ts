/**
 * YAML to plain data, within bounds: a hostile file costs an error, not memory or minutes.
 */
import { Composer, type CST, type Document, type ErrorCode, Lexer, LineCounter, Parser } from "yaml"
import type { VecsnapError } from "../../src/index.js"
import { usageError } from "../usage-error.js"

/**
 * Nesting of lists and maps. The composer of the yaml package recurses: too deep, it takes the process down.
 */
const MAX_DEPTH = 64
/**
 * Words and punctuation. The yaml package looks for repeated keys and anchors in time that grows with the
 * square.
 */
const MAX_TOKENS = 50_000
/** Scalars, lists and maps once aliases are replaced by what they stand for. */
const MAX_VALUES = 50_000
/** Aliases times what each of them multiplies; as the yaml package counts it, and its default. */
const MAX_ALIASES = 100

/** What a text holds, or all that is wrong with it. */
export type Yaml = { readonly data: unknown } | { readonly faults: readonly VecsnapError[] }

/**
 * Parses one YAML 1.2 document of the core schema: keys are texts, large integers are `bigint`, an empty
 * document is an empty map. Duplicate keys, unknown tags and further documents are faults, as is whatever
 * exceeds the bounds above.
 */
export function parseYaml(content: string, file: string): Yaml {
  const lines = new LineCounter()
  const tokens = tokensOf(content, lines)
  if (typeof tokens === "string") return { faults: [invalid(file, tokens)] }
  const composer = new Composer({
    schema: "core",
    // A %YAML 1.1 directive would bring back dates, merge keys, and `no` for false.
    resolveKnownTags: false,
    intAsBigInt: true,
    stringKeys: true,
  })
  const [document, second] = composer.compose(tokens, true, content.length)
  const problems = [...document!.errors, ...document!.warnings]
  if (problems.length > 0) {
    return {
      faults: problems.map((problem) =>
        invalid(file, problem.message, lines.linePos(problem.pos[0]).line, problem),
      ),
    }
  }
  if (second !== undefined) {
    const { line } = lines.linePos(second.range[0])
    return { faults: [invalid(file, "expected one document, found another one", line)] }
  }
  const value = plainValue(document!)
  if ("problem" in value) return { faults: [invalid(file, value.problem)] }
  return { data: value.data ?? {} }
}

function invalid(
  file: string,
  problem: string,
  line?: number,
  cause?: Error & { code?: ErrorCode },
): VecsnapError {
  const place = line === undefined ? file : `${file}:${line}`
  return usageError(`${place} is not valid YAML: ${problem}`, { file, line }, cause)
}

/** The concrete syntax, or what bound it exceeds. Lexer and parser do not recurse, so this stops in time. */
function tokensOf(content: string, lines: LineCounter): readonly CST.Token[] | string {
  lines.addNewLine(0)
  const parser = new Parser(lines.addNewLine)
  const tokens: CST.Token[] = []
  let lexemes = 0
  for (const lexeme of new Lexer().lex(content)) {
    tokens.push(...parser.next(lexeme))
    if (parser.stack.length > MAX_DEPTH) return `expected at most ${MAX_DEPTH} levels of nesting, found more`
    if (++lexemes > MAX_TOKENS) return `expected at most ${MAX_TOKENS} tokens, found more`
  }
  tokens.push(...parser.end())
  return tokens
}

class Refused extends Error {}

/** Data of a document, made of plain lists and maps, aliases replaced. */
function plainValue(document: Document.Parsed): { readonly data: unknown } | { readonly problem: string } {
  let values = 0
  const plain = (value: unknown, depth: number): unknown => {
    if (++values > MAX_VALUES) throw new Refused(`expected at most ${MAX_VALUES} values, found more`)
    // Aliases can nest deeper than the text does, and without end if one refers to what it is in.
    if (depth > MAX_DEPTH) throw new Refused(`expected at most ${MAX_DEPTH} levels of nesting, found more`)
    // All integers are `bigint` at first, since a large number would have been rounded.
    if (typeof value === "bigint") return Number.isSafeInteger(Number(value)) ? Number(value) : value
    if (Array.isArray(value)) return value.map((item) => plain(item, depth + 1))
    if (value === null || typeof value !== "object") return value
    if (Object.hasOwn(value, "__proto__")) throw new Refused("the key __proto__ is not allowed")
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, plain(item, depth + 1)]))
  }
  try {
    return { data: plain(document.toJS({ maxAliasCount: MAX_ALIASES }), 0) }
  } catch (error) {
    // ReferenceError: an alias without its anchor, or too many of them.
    if (error instanceof Refused || error instanceof ReferenceError) return { problem: error.message }
    throw error
  }
}
