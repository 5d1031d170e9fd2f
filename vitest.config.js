import { readdirSync, readFileSync } from "node:fs"
import { defineConfig } from "vitest/config"

// The AWS SDK says in every process that Node 22 will be needed one day; docs/decisions/0001 knows.
process.env.AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED = "true"

const { TEST_ALL, TEST_THOROUGH } = process.env
const slow = TEST_ALL === "1" || TEST_THOROUGH === "1" ? [] : ["dist/test/**/*.slow.test.js"]

/** Tests that replace modules which ours import, or load ours afresh: there vitest has to load ours, too. */
const mocking = [
  "dist/test/unit/reader/shards/disk-cache-eviction.test.js",
  "dist/test/unit/sharding/cluster/routing/scorer.test.js",
  "dist/test/unit/sources/packages.test.js",
  "dist/test/unit/vectors/cells/kernel-plain.test.js",
  "dist/test/unit/vectors/kernel.test.js",
  "dist/test/unit/vectors/scan.test.js",
]

/** In the text of a test: what it changes outlives it in its process, or may. */
const CHANGES =
  /\bvi\.\w|\bregister[A-Z]\w*\(|\bprocess\.(env|chdir|on)\b|\/(memory-array|pivots|round-robin)\.js/

/**
 * Unit tests that leave their process as it was, as far as their text tells. They share processes: to start one
 * and to load our modules takes as long as all that most files test.
 */
const sharing = readdirSync("dist/test/unit", { recursive: true, encoding: "utf8" })
  .filter((name) => name.endsWith(".test.js") && !name.endsWith(".slow.test.js"))
  .map((name) => `dist/test/unit/${name.replaceAll("\\", "/")}`)
  .filter((name) => !mocking.includes(name) && !CHANGES.test(readFileSync(name, "utf8")))

// Node loads our modules itself, which takes half the time.
const server = { deps: { external: [/\/dist\/(src|cli)\//] } }

const settings = { pool: "forks", testTimeout: 120_000, hookTimeout: 120_000 }

// Tests run the compiled JavaScript, the same files that are published: worker threads and child processes then
// need no loader, and what is tested is what ships. `npm test` compiles first.
export default defineConfig({
  test: {
    globalSetup: ["dist/test/servers/global-setup.js"],
    maxWorkers: 2,
    projects: [
      {
        test: {
          ...settings,
          name: "tests",
          include: ["dist/test/**/*.test.js"],
          exclude: [...mocking, ...sharing, ...slow],
          server,
        },
      },
      { test: { ...settings, name: "unit", include: sharing, isolate: false, server } },
      { test: { ...settings, name: "mocking", include: mocking } },
    ],
  },
})
