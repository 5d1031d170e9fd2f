// biome-ignore-all lint/suspicious/noTemplateCurlyInString: the variables of a configuration look like this.
import { inspect } from "node:util"
import fc from "fast-check"
import { describe, expect, test } from "vitest"
import { checkConfig, parseConfig } from "../../../cli/config/check.js"
import { substituteVariables, variablesIn } from "../../../cli/config/variables.js"

const parse = (content: string, env: Record<string, string> = {}) => parseConfig(content, "vecsnap.yaml", env)

describe("texts", () => {
  test.each([
    ["s3://${BUCKET}/words", "s3://vectors/words"],
    ["${BUCKET}${EMPTY}${_x1}", "vectorsone"],
    ["${UNSET:-s3://b/c}", "s3://b/c"],
    ["${EMPTY:-other}", "other"],
    ["${BUCKET:-other}", "vectors"],
    ["a${UNSET:-}b", "ab"],
    ["$${BUCKET}", "${BUCKET}"],
    ["$$${BUCKET}", "$${BUCKET}"],
    ["$BUCKET costs 5$", "$BUCKET costs 5$"],
    // A value is not looked into again.
    ["${NESTED}", "${BUCKET}"],
  ])("%s", (text, expected) => {
    const env = { BUCKET: "vectors", EMPTY: "", _x1: "one", NESTED: "${BUCKET}" }
    expect(substituteVariables(text, env)).toEqual({ data: expected, faults: [] })
  })

  test("everywhere in values, nowhere in keys", () => {
    const env = { A: "x" }
    const content = "custom: { '${A}': ['${A}', { deep: '-${A}-' }, 1, null] }"
    expect(parse(content, env)).toEqual({ custom: { "${A}": ["x", { deep: "-x-" }, 1, null] } })
  })

  test("a value cannot add YAML", () => {
    const model = "m\npublish: false\nto: [elsewhere] # &a *b !c"
    expect(parse("model: ${MODEL}\nto: here", { MODEL: model })).toEqual({ model, to: "here" })
  })

  test("any value arrives as it is, whatever is around it", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (value) => {
        expect(substituteVariables("<${V}>", { V: value }).data).toBe(`<${value}>`)
      }),
    )
  })

  test("any text is kept by an escaped ${", () => {
    fc.assert(
      fc.property(fc.array(fc.constantFrom("$", "{", "}", "${", "A", ":-", " ")), (parts) => {
        const text = parts.join("")
        const escaped = text.replaceAll("${", () => "$${")
        expect(variablesIn(escaped)).toEqual([])
        expect(substituteVariables(escaped, {})).toEqual({ data: text, faults: [] })
      }),
    )
  })

  test("names that every object has are not variables", () => {
    expect(() => parse("model: ${constructor}")).toThrow("the environment variable ${constructor} is not set")
  })
})

describe("numbers and flags", () => {
  test.each([
    ["sharding: { shards: '${V}' }", "8", { sharding: { shards: 8 } }],
    ["sharding: { shards: '${UNSET:-16}' }", "", { sharding: { shards: 16 } }],
    ["publish: ${V}", "false", { publish: false }],
    ["gates: { skew: { max: '${V}' } }", "1.5", { gates: { skew: { max: 1.5 } } }],
    [
      "gates: { overlap: { min: 0.5, probes: '${V}' } }",
      "4",
      { gates: { overlap: { min: 0.5, probes: 4 } } },
    ],
    [
      "gates: { overlap: { min: 0.5, probes: '${V}' } }",
      "all",
      { gates: { overlap: { min: 0.5, probes: "all" } } },
    ],
    // A text where a text is wanted, whatever it looks like.
    ["model: ${V}", "8", { model: "8" }],
    ["custom: { a: '${V}' }", "true", { custom: { a: "true" } }],
    ["sharding: { values: ['${V}'] }", "8", { sharding: { values: ["8"] } }],
  ])("%s with %j", (content, value, expected) => {
    expect(parse(content, { V: value })).toEqual(expected)
  })

  test.each(["08", " 8", "8 ", "0x8", "8x", "", "1e", "Infinity", "-8", "8.5", "99999999999999999", "true"])(
    "%j is no number of shards",
    (value) => {
      expect(() => parse("sharding: { shards: '${V}' }", { V: value })).toThrow(
        'vecsnap.yaml: sharding.shards: expected a whole number from 1, or "auto", found the value of ${V}',
      )
    },
  )

  test("only a variable alone: a text around it makes it a text", () => {
    expect(() => parse("sharding: { shards: '1${V}' }", { V: "8" })).toThrow(
      'sharding.shards: expected a whole number from 1, or "auto", found "1${V}" with the values of its variables',
    )
    expect(() => parse("sharding: { shards: '8' }")).toThrow(
      'expected a whole number from 1, or "auto", found "8"',
    )
  })
})

describe("faults", () => {
  test.each([
    ["to: s3://${BUCKET}/a", "vecsnap.yaml: to: the environment variable ${BUCKET} is not set"],
    ["input: [a, '${B}']", "vecsnap.yaml: input.1: the environment variable ${B} is not set"],
    [
      "sharding: { shards: '${N}' }",
      "vecsnap.yaml: sharding.shards: the environment variable ${N} is not set",
    ],
    ["${A}", "vecsnap.yaml: the environment variable ${A} is not set"],
    ...["${", "${}", "${1A}", "${A-b}", "${A B}", "${A", "${A:-${B}}"].map((text) => [
      `model: "${text}"`,
      "vecsnap.yaml: model: a ${ starts no variable, expected ${NAME} or ${NAME:-default}, or $${ for the characters themselves",
    ]),
  ])("%s", (content, message) => {
    const env = { A: "a" }
    const { config, faults } = checkConfig(content!, "vecsnap.yaml", content === "${A}" ? {} : env)
    expect(config).toBeUndefined()
    expect(faults[0]).toMatchObject({ tag: "InvalidInput", message })
  })

  test("no value of a variable is in any message or detail", () => {
    const secret = "hunter2-secret"
    const env = { SECRET: secret }
    const contents = [
      "metric: ${SECRET}",
      "metric: x${SECRET}",
      "gates: { skew: '${SECRET}' }",
      "gates: { skew: { max: '${SECRET}' } }",
      "gates: ['${SECRET}']",
      "publish: { a: '${SECRET}' }",
      "input: { a: ['${SECRET}'] }",
      "fields: { a: '${SECRET}', '${SECRET}': x }",
      "retention: { grace: '${SECRET}' }",
      "to: ${SECRET}\nmodel: ${UNSET}",
      "- ${SECRET}",
      "${SECRET}",
      "unknown: ${SECRET}",
    ]
    for (const content of contents) {
      const { faults } = checkConfig(content, "vecsnap.yaml", env)
      expect(faults.length, content).toBeGreaterThan(0)
      expect(inspect(faults, { depth: 20 }), content).not.toContain(secret)
      expect(() => parse(content, env)).toThrow(expect.not.stringContaining(secret))
    }
  })
})
