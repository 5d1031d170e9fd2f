import { type ChildProcess, spawn } from "node:child_process"
import { inject } from "vitest"
import { fromRoot } from "./paths.js"

/** Environment in which the command line finds the S3 server of this run. */
export function cliEnvironment(): NodeJS.ProcessEnv {
  const { endpoint, region, accessKeyId, secretAccessKey } = inject("s3")
  return {
    ...process.env,
    AWS_ENDPOINT_URL_S3: endpoint,
    AWS_REGION: region,
    AWS_ACCESS_KEY_ID: accessKeyId,
    AWS_SECRET_ACCESS_KEY: secretAccessKey,
    AWS_EC2_METADATA_DISABLED: "true",
  }
}

/** Starts the compiled command line. */
export function startCli(
  args: readonly string[],
  env: NodeJS.ProcessEnv = {},
  stdin: "ignore" | "pipe" = "ignore",
): ChildProcess {
  return spawn(process.execPath, [fromRoot("dist/cli/main.js"), ...args], {
    env: { ...cliEnvironment(), ...env },
    stdio: [stdin, "pipe", "pipe"],
  })
}

export interface CliResult {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
}

/** Resolves when a started command line has ended, with all that it printed. */
export function finished(child: ChildProcess): Promise<CliResult> {
  let stdout = ""
  let stderr = ""
  child.stdout!.on("data", (chunk) => (stdout += chunk))
  child.stderr!.on("data", (chunk) => (stderr += chunk))
  return new Promise((resolve, reject) => {
    child.once("error", reject)
    child.once("close", (code, signal) => resolve({ code, signal, stdout, stderr }))
  })
}

/** Runs the compiled command line to its end. */
export const runCli = (args: readonly string[], env?: NodeJS.ProcessEnv): Promise<CliResult> =>
  finished(startCli(args, env))
