/**
 * `npm run servers:install [-- --only <name>]`: installs the real S3 servers for tests, those that are missing, and
 * fails if one can't be installed.
 */
import { spawn } from "node:child_process"
import { parseArgs } from "node:util"
import {
  installServer,
  isInstalled,
  parseServerName,
  type Run,
  SERVER_NAMES,
  type ServerName,
} from "./servers.js"

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { only: { type: "string", multiple: true } } })
  // One after the other: compilers use all processors anyway, and their output stays readable.
  for (const name of values.only?.map(parseServerName) ?? SERVER_NAMES) {
    await install(name).catch((error) => fail(`${name}: ${error.message}`))
  }
}

async function install(name: ServerName): Promise<void> {
  if (await isInstalled(name)) return console.log(`${name}: installed already`)
  console.log(`${name}: installing`)
  const start = performance.now()
  await installServer(name, run)
  console.log(`${name}: installed in ${Math.round((performance.now() - start) / 1000)} s`)
}

const run: Run = (program, args, env) =>
  new Promise((resolve, reject) => {
    console.log(`  ${[program, ...args].join(" ")}`)
    const child = spawn(program, args, { stdio: "inherit", env: { ...process.env, ...env } })
    child.once("error", reject)
    child.once("exit", (code, signal) =>
      code === 0 ? resolve() : reject(new Error(`${program} ended with ${code ?? signal}`)),
    )
  })

function fail(message: string): void {
  console.error(message)
  process.exitCode = 1
}

await main().catch((error) => fail(error.message))
