/**
 * CEL expressions over the declared fields of a snapshot: parsed, checked as far as that goes without values,
 * bounded in what they may take, and evaluated.
 *
 * Besides the standard library there is `shard_hash(x)`: XXH3-64 with seed 0 of an int or uint (8 bytes,
 * signed, little-endian), a string (UTF-8) or bytes, as a uint. Integers of different signedness do not mix
 * in CEL: write `shard_hash(tenant) % 16u`.
 */
import {
  type CelInput,
  CelScalar,
  type CelValue,
  celEnv,
  celFunc,
  celType,
  celUint,
  isCelError,
  isCelUint,
  parse,
  plan,
} from "@bufbuild/cel"
import { invalidInput } from "../../errors.js"
import type { FieldValue } from "../../records.js"
import { hashValue } from "../hash.js"
import type { ContextType, StrategyContext } from "../strategy.js"
import { patternCost } from "./pattern-cost.js"

export type Field = StrategyContext["fields"][number]
type Expr = ReturnType<typeof parse>["expr"]

const SHARD_HASH = "shard_hash"

// An expression comes out of a manifest, and runs on the thread of whoever opens the snapshot. Without macros
// it takes a step per operator; a regular expression is RE2, which takes time in proportion to its text once
// it is compiled, and it is compiled whenever it is used.
const EXPRESSION_MAX_LENGTH = 10_000
const EXPRESSION_MAX_DEPTH = 200
const EXPRESSION_MAX_STEPS = 100_000
/** Of all regular expressions together. Compiling them takes some 40 ms then. */
const PATTERNS_MAX_COST = 1000
const STEPS_PER_PATTERN_COST = 10

// An integer that does not fit in 64 bits with a sign throws, which CEL reports as its error.
const shardHash = (value: bigint | string | Uint8Array) => celUint(hashValue(value))

const { INT, UINT, STRING, BYTES } = CelScalar

const ENVIRONMENT = celEnv({
  funcs: [
    celFunc(SHARD_HASH, [INT], UINT, shardHash),
    celFunc(SHARD_HASH, [UINT], UINT, (value) => shardHash(value.value)),
    celFunc(SHARD_HASH, [STRING], UINT, shardHash),
    celFunc(SHARD_HASH, [BYTES], UINT, shardHash),
  ],
})

/** A value of a field; undefined if there is none. */
export type ContextValue = FieldValue | Uint8Array | undefined

/** What an expression may give. */
export type CelResult = bigint | string | Uint8Array

/** An expression, ready to be evaluated. */
export interface CelProgram {
  readonly expression: string
  /** The declared fields that it uses, in order of declaration. */
  readonly fields: readonly Field[]
  /**
   * Its result: integers as `bigint`, whether int or uint, a string or bytes. `fieldValue` gives the value of
   * each field in `fields`; `where` begins the messages. Throws `InvalidInput` naming place and expression if
   * evaluation fails, a value is null or of another type, or the result is of another type.
   */
  evaluate(fieldValue: (field: Field) => ContextValue, where: () => string): CelResult
}

/**
 * Parses an expression and checks it as far as that goes without values. Throws `InvalidInput` if it is no
 * CEL, uses a name that is not a declared field, calls a function that does not exist, or does not fit the
 * types of the fields.
 */
export function compileCel(expression: string, declared: readonly Field[]): CelProgram {
  const fail = (reason: string, cause?: unknown) =>
    invalidInput(`the sharding expression ${quote(expression)} ${reason}`, { expression }, cause)
  if (expression.length > EXPRESSION_MAX_LENGTH) {
    throw invalidInput(
      `the sharding expression has ${expression.length} characters, expected at most ${EXPRESSION_MAX_LENGTH}`,
      { expected: EXPRESSION_MAX_LENGTH, got: expression.length },
    )
  }
  const parsed = parseCel(expression, fail)
  const levels = levelsOf(parsed.expr)
  if (levels.length > EXPRESSION_MAX_DEPTH)
    throw fail(`has ${levels.length} levels, expected at most ${EXPRESSION_MAX_DEPTH}`)
  const parts = levels.flat()
  const patterns = patternsIn(parts)
  if (patterns === undefined) {
    throw fail("has a regular expression that is not a text in quotes, whose cost cannot be told")
  }
  const cost = patterns.reduce((sum, pattern) => sum + patternCost(pattern), 0)
  if (cost > PATTERNS_MAX_COST) {
    throw fail(
      `has regular expressions of about ${cost} instructions, expected at most ${PATTERNS_MAX_COST}: ` +
        "repeat less, or smaller groups",
    )
  }
  const steps = stepsOf(parts, cost * STEPS_PER_PATTERN_COST)
  if (steps > EXPRESSION_MAX_STEPS) {
    throw fail(`may take ${steps.toExponential(0)} steps, expected at most ${EXPRESSION_MAX_STEPS}`)
  }
  const names = namesIn(parsed.expr)
  const unknown = [...names.variables].find((name) => !declared.some((field) => field.name === name))
  if (unknown !== undefined) {
    const fields = declared.map((field) => `${field.name} (${field.type})`).join(", ")
    throw fail(
      `uses ${unknown}, which is not a declared field; there ${fields === "" ? "are none" : `is ${fields}`}`,
    )
  }
  const missing = [...names.functions].find((name) => ENVIRONMENT.funcs.find(name) === undefined)
  if (missing !== undefined) throw fail(`calls ${missing}, which is not a function`)

  // No build has such fields, so that none has such a result.
  const takesBytes = declared.some(({ type }) => type === "bytes")
  const expected = `int, uint${takesBytes ? ", bytes" : ""} or string`
  const run = plan(ENVIRONMENT, parsed)
  const fields = declared.filter((field) => names.variables.has(field.name))

  const trial = run(Object.fromEntries(fields.map((field) => [field.name, TRIAL_VALUES[field.type]])))
  if (isCelError(trial)) {
    // Whatever the values, types that do not fit fail. Other errors (a division by zero) may only be due to
    // these.
    if (trial.message.includes("no matching overload"))
      throw fail(`does not fit its fields: ${trial.message}`, trial)
  } else if (toResult(trial, takesBytes) === undefined) {
    throw fail(`gives ${typeName(trial)}, expected ${expected}`)
  }

  return {
    expression,
    fields,
    evaluate(fieldValue, where) {
      const variables: Record<string, CelInput> = {}
      for (const field of fields) {
        const given = fieldValue(field)
        const isCut = field.withoutNul === true && hasNul(given)
        const value = isCut ? undefined : toCel(field.type, given)
        if (value === undefined) {
          const needed = `${NEEDED[field.type]}${isCut ? " without NUL" : ""}`
          throw invalidInput(
            `${where()}: ${field.name} is ${show(given)}, but the sharding expression ${quote(expression)} needs ${needed}`,
            { field: field.name, expression },
          )
        }
        variables[field.name] = value
      }
      const value = run(variables)
      const result = isCelError(value) ? undefined : toResult(value, takesBytes)
      if (result !== undefined) return result
      const problem = isCelError(value)
        ? `fails: ${value.message}`
        : `gives ${typeName(value)}, expected ${expected}`
      throw invalidInput(
        `${where()}: the sharding expression ${quote(expression)} ${problem}`,
        { expression },
        value,
      )
    },
  }
}

function parseCel(expression: string, fail: (reason: string, cause: unknown) => Error) {
  try {
    return parse(expression)
  } catch (error) {
    throw fail(`is not CEL: ${(error as Error).message.replace(/^<input>:/, "line ")}`, error)
  }
}

const TRIAL_VALUES: Readonly<Record<ContextType, CelInput>> = {
  string: "",
  int64: 0n,
  uint64: celUint(0n),
  float64: 0,
  bool: false,
  bytes: new Uint8Array(),
}

const NEEDED: Readonly<Record<ContextType, string>> = {
  string: "a string",
  int64: "a 64-bit integer",
  uint64: "a 64-bit integer without sign",
  float64: "a number",
  bool: "true or false",
  bytes: "bytes",
}

/** A field's value as CEL has it; `undefined` if it is null, missing or of another type. */
function toCel(type: ContextType, value: ContextValue): CelInput | undefined {
  switch (type) {
    case "string":
      return typeof value === "string" ? value : undefined
    case "bool":
      return typeof value === "boolean" ? value : undefined
    case "float64":
      return typeof value === "number" ? value : undefined
    case "bytes":
      return value instanceof Uint8Array ? value : undefined
    case "int64": {
      const integer = toInteger(value)
      return integer !== undefined && BigInt.asIntN(64, integer) === integer ? integer : undefined
    }
    case "uint64": {
      const integer = toInteger(value)
      return integer !== undefined && BigInt.asUintN(64, integer) === integer ? celUint(integer) : undefined
    }
  }
}

const hasNul = (value: ContextValue): boolean =>
  typeof value === "string" ? value.includes("\0") : value instanceof Uint8Array && value.includes(0)

const toInteger = (value: ContextValue): bigint | undefined =>
  typeof value === "bigint" || Number.isSafeInteger(value) ? BigInt(value as bigint | number) : undefined

function toResult(value: CelValue, takesBytes: boolean): CelResult | undefined {
  if (typeof value === "bigint" || typeof value === "string") return value
  if (value instanceof Uint8Array) return takesBytes ? value : undefined
  return isCelUint(value) ? value.value : undefined
}

function typeName(value: CelValue): string {
  return celType(value).toString()
}

/** Names that stand for types in CEL, not for variables, unless a field has that name. */
const TYPE_NAMES = ["int", "uint", "double", "bool", "string", "bytes", "list", "map", "null_type", "type"]

/** Operators and helpers of macros have other names, with signs. */
const FUNCTION_NAME = /^[A-Za-z]\w*$/

/** The expressions that an expression consists of. */
function partsOf(expression: Expr | undefined): readonly (Expr | undefined)[] {
  const kind = expression?.exprKind
  switch (kind?.case) {
    case "selectExpr":
      return [kind.value.operand]
    case "callExpr":
      return [kind.value.target, ...kind.value.args]
    case "listExpr":
      return kind.value.elements
    case "structExpr":
      return kind.value.entries.flatMap(({ keyKind, value }) => [
        keyKind.case === "mapKey" ? keyKind.value : undefined,
        value,
      ])
    case "comprehensionExpr": {
      const { iterRange, accuInit, loopCondition, loopStep, result } = kind.value
      return [iterRange, accuInit, loopCondition, loopStep, result]
    }
    default:
      return []
  }
}

/**
 * An expression and all that it consists of, level by level: not recursive, since too many levels are looked
 * for.
 */
function levelsOf(expression: Expr): readonly (readonly (Expr | undefined)[])[] {
  const levels: (readonly (Expr | undefined)[])[] = [[expression]]
  for (let level = partsOf(expression); level.length > 0; level = level.flatMap(partsOf)) levels.push(level)
  return levels
}

/**
 * A bound of the steps that an evaluation takes. Values of fields are scalars, so that the elements to loop
 * over are all in the text; each loop goes over them once for every step of the loops around it, and each "+"
 * may double what is looped over. `patternSteps` are those of all regular expressions.
 */
function stepsOf(all: readonly (Expr | undefined)[], patternSteps: number): number {
  let loops = 0
  let additions = 0
  let elements = 1
  for (const each of all) {
    const kind = each?.exprKind
    if (kind?.case === "comprehensionExpr") loops++
    else if (kind?.case === "callExpr" && kind.value.function === "_+_") additions++
    else if (kind?.case === "listExpr") elements = Math.max(elements, kind.value.elements.length)
    else if (kind?.case === "structExpr") elements = Math.max(elements, kind.value.entries.length)
  }
  const once = all.length + patternSteps
  return loops === 0 ? once : once * elements ** loops * 2 ** additions
}

/** The patterns of all regular expressions; `undefined` if one of them is computed. */
function patternsIn(all: readonly (Expr | undefined)[]): readonly string[] | undefined {
  const patterns: string[] = []
  for (const each of all) {
    const kind = each?.exprKind
    if (kind?.case !== "callExpr" || kind.value.function !== "matches") continue
    const constant = kind.value.args.at(-1)?.exprKind
    if (constant?.case !== "constExpr" || constant.value.constantKind.case !== "stringValue") return undefined
    patterns.push(constant.value.constantKind.value)
  }
  return patterns
}

/**
 * The variables and functions that an expression names; not those that macros such as `exists` bind inside
 * it.
 */
function namesIn(expression: Expr): { variables: Set<string>; functions: Set<string> } {
  const variables = new Set<string>()
  const functions = new Set<string>()
  const visit = (expr: Expr | undefined, bound: ReadonlySet<string>): void => {
    const kind = expr?.exprKind
    switch (kind?.case) {
      case "identExpr": {
        const name = kind.value.name.replace(/^\./, "")
        if (!bound.has(name) && !TYPE_NAMES.includes(name)) variables.add(name)
        break
      }
      case "selectExpr":
        visit(kind.value.operand, bound)
        break
      case "callExpr":
        if (FUNCTION_NAME.test(kind.value.function)) functions.add(kind.value.function)
        visit(kind.value.target, bound)
        for (const argument of kind.value.args) visit(argument, bound)
        break
      case "listExpr":
        for (const element of kind.value.elements) visit(element, bound)
        break
      case "structExpr":
        for (const { keyKind, value } of kind.value.entries) {
          if (keyKind.case === "mapKey") visit(keyKind.value, bound)
          visit(value, bound)
        }
        break
      case "comprehensionExpr": {
        const { iterRange, accuInit, loopCondition, loopStep, result, iterVar, iterVar2, accuVar } =
          kind.value
        visit(iterRange, bound)
        visit(accuInit, bound)
        const inside = new Set([...bound, iterVar, iterVar2, accuVar])
        for (const part of [loopCondition, loopStep, result]) visit(part, inside)
      }
    }
  }
  visit(expression, new Set())
  return { variables, functions }
}

/** An expression in a message. */
export function quote(expression: string): string {
  return `\`${expression}\``
}

/** A field's value in a message. */
export function show(value: ContextValue): string {
  if (value === undefined) return "missing"
  if (value instanceof Uint8Array) return `bytes ${Buffer.from(value).toString("hex")}`
  return typeof value === "string" ? JSON.stringify(value) : String(value)
}
