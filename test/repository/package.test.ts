import { readFileSync } from "node:fs"
import { describe, expect, it } from "vitest"
import * as vecsnap from "../../src/index.js"
import { fromRoot } from "../support/paths.js"

const readJson = (path: string) => JSON.parse(readFileSync(fromRoot(path), "utf8"))

describe("package", () => {
  it("exports these names and no others", () => {
    expect(Object.keys(vecsnap).sort()).toMatchInlineSnapshot(`
      [
        "BACKEND_NAMES",
        "FIELD_TYPES",
        "GATE_NAMES",
        "LAYOUTS",
        "METRICS",
        "SOURCE_FORMATS",
        "STRATEGY_NAMES",
        "TRUSTS",
        "VECTOR_ENCODINGS",
        "VERSION",
        "VecsnapError",
        "buildExported",
        "buildSnapshot",
        "certifiedRecall",
        "chooseSettings",
        "collect",
        "createReaderPool",
        "decodeNpy",
        "defaultProbes",
        "diagnoseStore",
        "diffSnapshots",
        "emptyShards",
        "evaluateSnapshot",
        "exportSnapshot",
        "findManifest",
        "importSnapshot",
        "isVecsnapError",
        "listManifests",
        "listRuns",
        "openSnapshot",
        "openSource",
        "openStore",
        "parseJson",
        "pin",
        "planSnapshot",
        "publishRun",
        "readHistory",
        "readInputFacts",
        "readLive",
        "readManifest",
        "readPointer",
        "recordsSource",
        "repairPointer",
        "rollback",
        "shardBytes",
        "shardFigures",
        "shardRun",
        "snapshotBytes",
        "stringifyJson",
        "unpin",
        "verifyRoot",
      ]
    `)
  })

  it("depends on exact versions, each explained in docs/decisions", () => {
    const { dependencies, optionalDependencies, devDependencies } = readJson("package.json")
    const all: Record<string, string> = { ...dependencies, ...optionalDependencies, ...devDependencies }
    const explained = readFileSync(fromRoot("docs/decisions/0001-dependencies.md"), "utf8")
    for (const [name, version] of Object.entries(all)) {
      expect(version, name).toMatch(/^\d+\.\d+\.\d+(-[\w.]+)?$/)
      expect(explained, `docs/decisions/0001-dependencies.md on ${name}`).toContain(`\`${name}\``)
    }
  })

  it("has a lock file that names no registry host", () => {
    expect(readFileSync(fromRoot("package-lock.json"), "utf8")).not.toMatch(/"resolved"/)
  })

  it("has a lock file with the packages of every platform, without which npm ci refuses it", () => {
    const { packages } = readJson("package-lock.json") as {
      packages: Record<string, { optionalDependencies?: Record<string, string> }>
    }
    const locked = new Set(Object.keys(packages).map((key) => key.replace(/^.*node_modules\//, "")))
    const wanted = Object.values(packages).flatMap(({ optionalDependencies = {} }) =>
      Object.keys(optionalDependencies),
    )
    expect(wanted.filter((name) => !locked.has(name))).toEqual([])
    expect(wanted.length).toBeGreaterThan(10)
  })

  it("has a lock file with the integrity hash of every package that the registry had when it was made", () => {
    const { packages } = readJson("package-lock.json") as { packages: Record<string, { integrity?: string }> }
    const without = Object.keys(packages).filter(
      (key) => key !== "" && !/^sha512-[\w+/]{86}==$/.test(packages[key]!.integrity ?? ""),
    )
    // Of other platforms; docs/security.md tells of them. `npm run lock` looks for them again.
    const platforms = [
      "darwin-arm64",
      "linux-arm64-gnu",
      "linux-arm64-musl",
      "win32-arm64-msvc",
      "win32-x64-msvc",
    ]
    expect(without.sort()).toEqual(platforms.map((name) => `node_modules/@lancedb/lancedb-${name}`))
  })
})
