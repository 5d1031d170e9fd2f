/**
 * Builds, reads and diagnoses a root with this machine's clock 20 minutes off, by libfaketime (Debian:
 * `apt-get install faketime`), against a server whose clock is right. Run it after `npm run build`: `node
 * scripts/clock-skew.js`.
 */

import { spawn, spawnSync } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { startS3Server } from "../dist/test/servers/s3-server.js"

if (spawnSync("faketime", ["--version"]).error !== undefined) {
  console.error("faketime is not installed")
  process.exit(8)
}

const root = fileURLToPath(new URL("..", import.meta.url))
const scratch = mkdtempSync(join(tmpdir(), "vecsnap-clock-"))
const server = await startS3Server({ buckets: ["clock"], clockAheadMs: 0 })
const env = {
  ...process.env,
  AWS_ENDPOINT_URL_S3: server.endpoint,
  AWS_REGION: "us-east-1",
  AWS_ACCESS_KEY_ID: "clock-script",
  AWS_SECRET_ACCESS_KEY: "clock-script",
  AWS_EC2_METADATA_DISABLED: "true",
  XDG_CACHE_HOME: scratch,
  NO_PROXY: "127.0.0.1",
}

/** Runs the command with its clock off by `offset`, and resolves to its exit code. */
const run = (offset, ...command) =>
  new Promise((resolve) => {
    console.log(`\n$ faketime -f ${offset} vecsnap ${command.join(" ")}`)
    const child = spawn("faketime", ["-f", offset, "node", join(root, "dist/cli/main.js"), ...command], {
      env,
      stdio: ["ignore", "inherit", "inherit"],
    })
    child.on("close", (code) => {
      console.log(`exit code ${code}`)
      resolve(code)
    })
  })

let failed = false
for (const offset of ["-20m", "+20m"]) {
  const url = `s3://clock/${offset === "-20m" ? "behind" : "ahead"}`
  const build = [
    "build",
    join(root, "data/words.parquet"),
    "--to",
    url,
    "--strategy",
    "lsh",
    "--shards",
    "4",
    "--bits",
    "4",
  ]
  for (const command of [
    build,
    ["query", url, "--like", "king", "-k", "3", "--probes", "all"],
    ["doctor", url, "--quick"],
  ])
    failed = (await run(offset, ...command)) !== 0 || failed
}
const refused = server.requests.filter(({ status }) => status === 403).length
console.log(`\n${server.requests.length} requests, ${refused} of them refused for their time`)
await server.close()
rmSync(scratch, { recursive: true, force: true })
process.exit(failed ? 1 : 0)
