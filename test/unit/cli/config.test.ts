import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterEach, beforeEach, describe, expect, test } from "vitest"
import { parseConfig } from "../../../cli/config/check.js"
import { loadConfig } from "../../../cli/config.js"

const parse = (content: string) => parseConfig(content, "vecsnap.yaml")

test("a full configuration is read", () => {
  const content = `
input: day/*.parquet
to: s3://vectors/words
id-column: word
fields: { lang: string, year: int64 }
payload-columns: []
metric: l2
backend: lancedb
sharding: { strategy: cel, cel: lang, values: [de, 2, 9007199254740993] }
on-bad-row: skip
max-bad-rows: 0
custom: { team: search, nested: { ids: [1, 9007199254740993, null] } }
storage: { endpoint: "http://127.0.0.1:9000", path-style: true }
`
  expect(parse(content)).toEqual({
    input: ["day/*.parquet"],
    to: "s3://vectors/words",
    "id-column": "word",
    fields: { lang: "string", year: "int64" },
    "payload-columns": [],
    metric: "l2",
    backend: "lancedb",
    sharding: { strategy: "cel", cel: "lang", values: ["de", 2, 9007199254740993n] },
    "on-bad-row": "skip",
    "max-bad-rows": 0,
    custom: { team: "search", nested: { ids: [1, 9007199254740993n, null] } },
    storage: { endpoint: "http://127.0.0.1:9000", "path-style": true },
  })
})

test("an empty file configures nothing", () => {
  expect(parse("# nothing yet\n")).toEqual({})
})

describe("faults name file, key and the value found", () => {
  test.each([
    ["metrik: l2", "vecsnap.yaml: unknown key metrik: did you mean metric?"],
    ["idColumn: word", "vecsnap.yaml: unknown key idColumn: did you mean id-column?"],
    ["shards: 4", "vecsnap.yaml: unknown key shards: did you mean sharding.shards?"],
    ["sharding: { shard: 4 }", "vecsnap.yaml: unknown key sharding.shard: did you mean sharding.shards?"],
    [
      "storage: { password: x }",
      "vecsnap.yaml: unknown key storage.password: expected one of endpoint, region, path-style, proxy, ca-file, encryption, kms-key, storage-class, acl, requester-pays, headers",
    ],
    ["metric: euclid", 'vecsnap.yaml: metric: expected one of cosine, l2, dot, found "euclid"'],
    [
      "sharding: { shards: 12x }",
      'vecsnap.yaml: sharding.shards: expected a whole number from 1, or "auto", found "12x"',
    ],
    [
      "sharding: { shards: 0 }",
      'vecsnap.yaml: sharding.shards: expected a whole number from 1, or "auto", found 0',
    ],
    ["max-bad-rows: 1.5", "vecsnap.yaml: max-bad-rows: expected a whole number from 0, found 1.5"],
    ["input: 3", "vecsnap.yaml: input: expected a text or a list of texts, found 3"],
    ["input: []", "vecsnap.yaml: input: expected at least one text, found []"],
    [
      "fields: { year: int }",
      'vecsnap.yaml: fields.year: expected one of string, int64, float64, bool, found "int"',
    ],
    ["to:", "vecsnap.yaml: to: expected a text, found null"],
    ["- to", 'vecsnap.yaml: expected a map of settings, found ["to"]'],
  ])("%s", (content, message) => {
    expect(() => parse(content)).toThrow(expect.objectContaining({ tag: "InvalidInput", message }))
  })

  test("of YAML itself, with the line", () => {
    expect(() => parse("to: a\nto: b\n")).toThrow("vecsnap.yaml:2 is not valid YAML: Map keys must be unique")
  })
})

describe("where it is found", () => {
  let dir: string
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), "vecsnap-config-"))
  })
  afterEach(() => rm(dir, { recursive: true }))

  test("vecsnap.yaml in the working directory, or nothing", async () => {
    expect(await loadConfig(undefined, { cwd: dir, env: {} })).toEqual({})
    await writeFile(join(dir, "vecsnap.yaml"), "model: m1")
    expect(await loadConfig(undefined, { cwd: dir, env: {} })).toEqual({ model: "m1" })
  })

  test("a file that is named must be there", async () => {
    await writeFile(join(dir, "other.yaml"), "model: m2")
    expect(await loadConfig("other.yaml", { cwd: dir, env: {} })).toEqual({ model: "m2" })
    await expect(loadConfig("absent.yaml", { cwd: dir, env: {} })).rejects.toThrow(
      expect.objectContaining({
        tag: "InvalidInput",
        message: "cannot read the configuration absent.yaml: no such file or directory",
      }),
    )
  })
})
