import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterEach, beforeEach, describe, expect, test } from "vitest"
import { run } from "../../../cli/run.js"
import { captureIo } from "./capture.js"

let dir: string
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "vecsnap-config-"))
})
afterEach(() => rm(dir, { recursive: true }))

const ENV = { BUCKET: "hidden-bucket", SHARDS: "8" }

async function check(content: string, ...args: string[]) {
  await writeFile(join(dir, "vecsnap.yaml"), content)
  const io = captureIo({ cwd: dir, env: ENV })
  const code = await run(["config", "check", ...args], io)
  return { code, out: io.out(), err: io.err() }
}

const COMPLETE = `
input: words.parquet
to: s3://\${BUCKET}/words
sharding: &plan { strategy: cluster, shards: "\${SHARDS}" }
custom: { plan: *plan, id: 9007199254740993 }
`

describe("config check", () => {
  test("prints the settings, with the names of variables in place of their values", async () => {
    expect(await check(COMPLETE)).toEqual({
      code: 0,
      err: "",
      out: `# vecsnap.yaml is valid
input: words.parquet
to: s3://\${BUCKET}/words
sharding:
  strategy: cluster
  shards: \${SHARDS}
custom:
  plan:
    strategy: cluster
    shards: \${SHARDS}
  id: 9007199254740993
`,
    })
  })

  test("what it prints is a configuration of the same meaning", async () => {
    const first = await check(COMPLETE)
    expect((await check(first.out)).out).toBe(first.out)
  })

  test("tells what a build needs besides; other commands need less", async () => {
    const { code, out } = await check("input: words.parquet")
    expect(code).toBe(0)
    expect(out).toMatch(/^# vecsnap.yaml is valid\n# vecsnap build needs flags with it: no target is named/)
    expect((await check("input: words.parquet\nto: ./words")).out).not.toContain("needs flags")
  })

  test("lists all faults, one a line, and exits with 2", async () => {
    const content = `
metrik: l2
to: \${UNSET}
sharding: { shards: 0.5, probe: 1 }
gates: { rows: { max-drop: 5 }, skew: {}, allow: [row] }
retention: { grace: 6 }
lease-seconds: 5
`
    expect(await check(content)).toEqual({
      code: 2,
      out: "",
      err: `error: vecsnap.yaml: to: the environment variable \${UNSET} is not set
error: vecsnap.yaml: sharding.shards: expected a whole number from 1, or "auto", found 0.5
error: vecsnap.yaml: unknown key sharding.probe: did you mean sharding.probes?
error: vecsnap.yaml: gates.allow.0: expected one of rows, dim, metric, model, skipped-rows, duplicates, skew, norms, zero-norms, centroid-drift, overlap, recall, found "row"
error: vecsnap.yaml: unknown key gates.rows.max-drop: expected one of min, max-drop-percent, max-grow-percent
error: vecsnap.yaml: gates.skew.max: expected a number from 1, found nothing
error: vecsnap.yaml: retention.grace: expected a duration such as 90s, 30m, 6h or 2d, found 6
error: vecsnap.yaml: lease-seconds: expected a whole number from 30, found 5
error: vecsnap.yaml: unknown key metrik: did you mean metric?
`,
    })
  })

  test("--json", async () => {
    const valid = await check(COMPLETE, "--json")
    expect(valid.code).toBe(0)
    expect(valid.out).toContain('"id":9007199254740993')
    expect(JSON.parse(valid.out)).toMatchObject({
      file: "vecsnap.yaml",
      valid: true,
      faults: [],
      settings: { to: `s3://\${BUCKET}/words`, sharding: { shards: `\${SHARDS}` } },
      missingForBuild: null,
    })
    const faulty = await check(`metric: \${BUCKET}\nto: [`, "--json")
    expect(faulty.code).toBe(2)
    expect(faulty.err).toBe("")
    expect(JSON.parse((await check(`metric: \${BUCKET}`, "--json")).out)).toEqual({
      file: "vecsnap.yaml",
      valid: false,
      faults: [
        {
          key: "metric",
          message: `vecsnap.yaml: metric: expected one of cosine, l2, dot, found the value of \${BUCKET}`,
        },
      ],
      settings: null,
      missingForBuild: null,
    })
  })

  test("a file that is not there", async () => {
    const io = captureIo({ cwd: dir })
    expect(await run(["config", "check"], io)).toBe(2)
    expect(io.err()).toBe("error: cannot read the configuration vecsnap.yaml: no such file or directory\n")
    const other = captureIo({ cwd: dir })
    await writeFile(join(dir, "n.yaml"), "model: a")
    expect(await run(["config", "check", "n.yaml"], other)).toBe(0)
  })
})

test("other commands tell the first fault and how many there are", async () => {
  await writeFile(join(dir, "vecsnap.yaml"), "to: a\nmetric: x\nbackend: y\nmodel: 1\n")
  const io = captureIo({ cwd: dir })
  expect(await run(["history"], io)).toBe(2)
  expect(io.err()).toBe(
    'error: vecsnap.yaml: metric: expected one of cosine, l2, dot, found "x"; and 2 more faults, which `vecsnap config check` lists\n',
  )
})
