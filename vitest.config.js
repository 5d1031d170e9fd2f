import { defineConfig } from "vitest/config"

// The AWS SDK says in every process that Node 22 will be needed one day; docs/decisions/0001 knows.
process.env.AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED = "true"

// Tests run the compiled JavaScript, the same files that are published: worker threads and child processes then
// need no loader, and what is tested is what ships. `npm test` compiles first.
export default defineConfig({
  test: {
    include: ["dist/test/**/*.test.js"],
    globalSetup: ["dist/test/servers/global-setup.js"],
    pool: "forks",
    maxWorkers: 2,
    testTimeout: 120_000,
    hookTimeout: 120_000,
  },
})
