import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterEach, beforeEach, describe, expect, test } from "vitest"
import { checkConfig, parseConfig } from "../../../cli/config/check.js"
import { loadConfig } from "../../../cli/config.js"

const parse = (content: string) => parseConfig(content, "vecsnap.yaml")

/** `levels` lists of nine aliases each: 9 ** levels values in a few hundred bytes. */
const laughs = (levels: number): string =>
  Array.from(
    { length: levels },
    (_, i) => `l${i}: &l${i} [${Array(9).fill(i === 0 ? "ha" : `*l${i - 1}`)}]`,
  ).join("\n")

describe("a hostile configuration costs an error", () => {
  const nesting = "vecsnap.yaml is not valid YAML: expected at most 64 levels of nesting, found more"
  const tokens = "vecsnap.yaml is not valid YAML: expected at most 50000 tokens, found more"
  test.each([
    ["billion laughs", laughs(10), "vecsnap.yaml is not valid YAML: Excessive alias count"],
    // Few enough aliases for the yaml package, and still 90 times a thousand values.
    [
      "many values by few aliases",
      `a: &a [${Array(1000).fill("x")}]\nb: [${Array(90).fill("*a")}]`,
      "vecsnap.yaml is not valid YAML: expected at most 50000 values, found more",
    ],
    ["an alias to what it is in", "custom: &a { b: *a }", nesting],
    ["deep lists", "[".repeat(100_000), nesting],
    ["deep lists that end", `${"[".repeat(70)}${"]".repeat(70)}`, nesting],
    ["deep maps", "{a: ".repeat(100_000), nesting],
    ["deep block lists", "- ".repeat(100_000), nesting],
    ["deep keys", "? ".repeat(100_000), nesting],
    ["many keys", Array.from({ length: 60_000 }, (_, i) => `k${i}: 1\n`).join(""), tokens],
    ["many anchors", Array.from({ length: 20_000 }, (_, i) => `k${i}: &a${i} 1\n`).join(""), tokens],
  ])("%s", (_name, content, message) => {
    expect(() => parse(content)).toThrow(message)
  })

  test("but what people write is far from the limits", () => {
    const values = Array.from({ length: 5000 }, (_, i) => `tenant-${i}`)
    const config = parse(`sharding:\n  values:\n${values.map((value) => `    - ${value}\n`).join("")}`)
    expect(config.sharding?.values).toEqual(values)
    expect(parse("model: &m a\ncustom: { model: *m, again: *m }")).toEqual({
      model: "a",
      custom: { model: "a", again: "a" },
    })
  })
})

describe("YAML that is not what it looks like", () => {
  test.each([
    ["to: a\nmodel: x\nto: b", "vecsnap.yaml:3 is not valid YAML: Map keys must be unique"],
    ["sharding: { shards: 1, shards: 2 }", "vecsnap.yaml:1 is not valid YAML: Map keys must be unique"],
    ["to: a\n---\nto: b", "vecsnap.yaml:2 is not valid YAML: expected one document, found another one"],
    ["to: !env TARGET", "vecsnap.yaml:1 is not valid YAML: Unresolved tag: !env"],
    ["to: !!binary aGk=", "vecsnap.yaml:1 is not valid YAML: Unresolved tag: tag:yaml.org,2002:binary"],
    ["[a]: b", "vecsnap.yaml:1 is not valid YAML: With stringKeys, all keys must be strings"],
    [
      "to: *nowhere",
      "vecsnap.yaml is not valid YAML: Unresolved alias (the anchor must be set before the alias): nowhere",
    ],
    ["custom: { __proto__: { a: 1 } }", "vecsnap.yaml is not valid YAML: the key __proto__ is not allowed"],
    ["__proto__: { to: a }", "vecsnap.yaml is not valid YAML: the key __proto__ is not allowed"],
    ["constructor: { prototype: { to: a } }", "vecsnap.yaml: unknown key constructor"],
    ["toString: a", "vecsnap.yaml: unknown key toString"],
  ])("%j", (content, message) => {
    expect(() => parse(content)).toThrow(expect.objectContaining({ tag: "InvalidInput" }))
    expect(() => parse(content)).toThrow(message)
  })

  test("names of prototypes are mere names where names are free", () => {
    const { custom } = parse("custom: { constructor: { prototype: 1 }, hasOwnProperty: 2 }")
    expect(custom).toEqual({ constructor: { prototype: 1 }, hasOwnProperty: 2 })
    expect(({} as Record<string, unknown>).prototype).toBeUndefined()
  })

  test("YAML 1.2 whatever a directive says: no and dates are texts, numbers as keys too", () => {
    expect(parse("%YAML 1.1\n---\nmodel: no\nto: 2026-01-01\nfields: { 2024: string }")).toEqual({
      model: "no",
      to: "2026-01-01",
      fields: { "2024": "string" },
    })
  })

  test("all faults of the YAML are listed", () => {
    const { faults } = checkConfig("a: 1\na: 2\nb: 1\nb: 2", "f.yaml", {})
    expect(faults.map(({ message }) => message)).toEqual([
      "f.yaml:2 is not valid YAML: Map keys must be unique",
      "f.yaml:4 is not valid YAML: Map keys must be unique",
    ])
  })
})

describe("files", () => {
  let dir: string
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), "vecsnap-config-"))
  })
  afterEach(() => rm(dir, { recursive: true }))
  const load = () => loadConfig("c.yaml", { cwd: dir, env: {} })
  const write = (content: string | Buffer) => writeFile(join(dir, "c.yaml"), content)

  test("up to 1 MiB, refused before they are parsed", async () => {
    const start = "model: m\n#"
    await write(start.padEnd(1024 * 1024, "x"))
    expect(await load()).toEqual({ model: "m" })
    // Not YAML either, which nobody gets to see.
    await write("{".padEnd(1024 * 1024 + 1, "x"))
    await expect(load()).rejects.toThrow(
      "the configuration c.yaml is too large: expected at most 1048576 bytes, found more",
    )
  })

  test("must be UTF-8; a byte order mark is fine", async () => {
    await write("\ufeffmodel: größe")
    expect(await load()).toEqual({ model: "größe" })
    await write(Buffer.from("model: gr\u00f6\u00dfe", "latin1"))
    await expect(load()).rejects.toThrow("the configuration c.yaml is not a text in UTF-8")
  })

  test("must be files", async () => {
    await mkdir(join(dir, "c.yaml"))
    await expect(load()).rejects.toThrow("cannot read the configuration c.yaml: it is a directory")
  })
})
