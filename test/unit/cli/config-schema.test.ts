import { readFileSync } from "node:fs"
import { describe, expect, test } from "vitest"
import { checkConfig, parseConfig } from "../../../cli/config/check.js"
import { configJsonSchema } from "../../../cli/config/json-schema.js"
import { KEYS_OF_GROUPS } from "../../../cli/config/schema.js"
import { run } from "../../../cli/run.js"
import { fromRoot } from "../../support/paths.js"
import { captureIo } from "./capture.js"

const read = (path: string): string => readFileSync(fromRoot(path), "utf8")

/** Every key by its full name, "gates.rows.min". */
const KEYS = [...KEYS_OF_GROUPS].flatMap(([group, keys]) =>
  keys.map((key) => (group === "" ? key : `${group}.${key}`)),
)

interface Schema {
  readonly description?: string
  readonly properties?: Readonly<Record<string, Schema>>
}

describe("the JSON Schema", () => {
  const generated = JSON.parse(JSON.stringify(configJsonSchema()))

  test("vecsnap.schema.json is what `vecsnap config schema` prints; run `npm run schema` if not", async () => {
    const io = captureIo()
    expect(await run(["config", "schema"], io)).toBe(0)
    expect(JSON.parse(io.out())).toEqual(generated)
    expect(JSON.parse(read("vecsnap.schema.json"))).toEqual(generated)
  })

  test("describes every key, and only these", () => {
    const described = (schema: Schema, path: string): string[] =>
      Object.entries(schema.properties ?? {}).flatMap(([key, value]) => {
        const name = path === "" ? key : `${path}.${key}`
        expect(value.description, name).toMatch(/^[A-Za-z].*\.$/)
        return [name, ...described(value, name)]
      })
    expect(described(generated, "").sort()).toEqual([...KEYS].sort())
    expect(KEYS).toContain("gates.rows.max-drop-percent")
  })

  test("takes what the command line takes: no other keys, input alone or listed, variables for numbers", () => {
    const variable = { type: "string", pattern: expect.stringContaining("A-Za-z_") }
    expect(generated.additionalProperties).toBe(false)
    expect(generated.properties.gates.properties.skew).toMatchObject({
      additionalProperties: false,
      required: ["max"],
      properties: { max: { anyOf: [{ type: "number", minimum: 1 }, variable] } },
    })
    expect(generated.properties.input.anyOf.map(({ type }: { type: string }) => type)).toEqual([
      "string",
      "array",
    ])
    expect(generated.properties.publish.anyOf).toEqual([{ type: "boolean" }, variable])
    expect(generated.properties.metric.anyOf).toEqual([
      { type: "string", enum: ["cosine", "l2", "dot"] },
      variable,
    ])
    expect(generated.properties.metric.anyOf[1].pattern).toSatisfy((pattern: string) =>
      ["\u0024{A}", "\u0024{A_1:-cosine}"].every((text) => new RegExp(pattern).test(text)),
    )
  })
})

describe("docs/configuration.md", () => {
  const page = read("docs/configuration.md")

  test("has a row for every key, and for no other", () => {
    const [, tables] = page.split("## Keys")
    const rows = Array.from(tables!.matchAll(/^\| `([a-z.-]+)`/gm), ([, key]) => key)
    expect(rows.sort()).toEqual([...KEYS].sort())
  })

  test("has an example that is valid, with every group", () => {
    const [, example] = /<!-- tested: example -->\n```yaml\n([\s\S]*?)```/.exec(page)!
    const config = parseConfig(example!, "vecsnap.yaml", { BUCKET: "vectors" })
    expect(config).toMatchObject({
      input: ["day/*.parquet"],
      to: "s3://vectors/words",
      sharding: { strategy: "cluster", shards: 64, probes: 8 },
      retention: { "keep-last": 7, grace: "6h" },
      storage: { endpoint: "https://s3.eu-central-1.amazonaws.com" },
    })
    const groups = [...KEYS_OF_GROUPS.keys()].filter((group) => group !== "")
    for (const group of groups) expect(config, group).toHaveProperty(group.split("."))
  })

  test("shows the faults as they are printed", () => {
    const [, content, printed] =
      /```console\n\$ cat vecsnap\.yaml\n([\s\S]*?)\$ vecsnap config check\n([\s\S]*?)```/.exec(page)!
    const { faults } = checkConfig(content!, "vecsnap.yaml", {})
    expect(faults.map(({ message }) => `error: ${message}\n`).join("")).toBe(printed)
  })
})
