/**
 * Recipes for real S3-compatible servers without Docker: how each is installed into a git-ignored cache and how it is
 * started on loopback, with a free port and a fresh directory, and ended. Versions are pinned here and nowhere else.
 */
import { spawn } from "node:child_process"
import { rmSync } from "node:fs"
import { access, constants, mkdir, mkdtemp, open, readFile, rm, writeFile } from "node:fs/promises"
import { type AddressInfo, createServer } from "node:net"
import { tmpdir } from "node:os"
import { delimiter, join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { fileURLToPath } from "node:url"

export type ServerName = "minio" | "localstack" | "versitygw"

export const SERVER_NAMES: readonly ServerName[] = ["minio", "localstack", "versitygw"]

/** The server of this name; throws for a name that is none. */
export function parseServerName(text: string): ServerName {
  const name = SERVER_NAMES.find((one) => one === text)
  if (name === undefined)
    throw new Error(`the servers are ${SERVER_NAMES.join(", ")}; got ${JSON.stringify(text)}`)
  return name
}

/** Where installed servers are kept: `.cache/servers` of the checkout; this file runs as `dist/localstack/servers.js`. */
export const CACHE_DIR = fileURLToPath(new URL("../../.cache/servers", import.meta.url))

/** A server that is running and answers. */
export interface RunningServer {
  readonly name: ServerName
  readonly endpoint: string
  readonly region: string
  readonly accessKeyId: string
  readonly secretAccessKey: string
  /** What it is known not to do, by name; README.md beside this file explains each. */
  readonly lacks: readonly string[]
  /** Ends the server with all its processes and removes its directory. Idempotent. */
  stop(): Promise<void>
}

interface Recipe {
  /** The pinned version; part of the path in the cache, so that another version is another installation. */
  readonly version: string
  /** What the installation needs on the PATH, and what to tell a person who lacks it. */
  readonly needs: { readonly program: string; readonly hint: string }
  /** Installs into `dir`, which exists and is empty. */
  readonly install: (dir: string, run: Run) => Promise<void>
  /** The program that `install` leaves in `dir`. */
  readonly program: string
  /** Whether a program of this name on the PATH does as well. */
  readonly foundOnPath: boolean
  readonly credentials: { readonly accessKeyId: string; readonly secretAccessKey: string }
  readonly lacks: readonly string[]
  readonly launch: (ports: readonly [number, number], dataDir: string) => Launch
}

interface Launch {
  readonly args: readonly string[]
  readonly env: Readonly<Record<string, string>>
  /** Whether the server answers clients by now; may reject while it does not. */
  readonly isReady: (endpoint: string, log: string) => boolean | Promise<boolean>
}

/** Runs a program to its end; rejects when it fails. `env` comes on top of the environment of this process. */
export type Run = (program: string, args: readonly string[], env?: Record<string, string>) => Promise<void>

const MINIO_VERSION = "v0.0.0-20260212201848-7aac2a2c5b7c"
const VERSITYGW_VERSION = "v1.8.0"
const LOCALSTACK_VERSION = "4.12.0"
// LocalStack leaves its dependencies unpinned; these are versions known to go with it.
const LOCALSTACK_PACKAGES = [
  `localstack-core[base-runtime]==${LOCALSTACK_VERSION}`,
  "cbor2==5.7.1",
  "cryptography==43.0.3",
  "service_identity==24.2.0",
  "pyopenssl==24.2.1",
]

const GO = { program: "go", hint: "install Go from https://go.dev" }
const PYTHON = { program: "python3", hint: "install Python 3.11 or newer with its venv module" }
const CREDENTIALS = { accessKeyId: "vecsnap-test", secretAccessKey: "vecsnap-test-secret" }

const RECIPES: Readonly<Record<ServerName, Recipe>> = {
  minio: {
    version: MINIO_VERSION,
    needs: GO,
    install: (dir, run) => run("go", ["install", `github.com/minio/minio@${MINIO_VERSION}`], { GOBIN: dir }),
    program: "minio",
    foundOnPath: true,
    credentials: CREDENTIALS,
    lacks: ["keys-below-keys"],
    launch: ([port, consolePort], dataDir) => ({
      args: [
        ...["server", "--address", `127.0.0.1:${port}`],
        ...["--console-address", `127.0.0.1:${consolePort}`, dataDir],
      ],
      env: {
        MINIO_ROOT_USER: CREDENTIALS.accessKeyId,
        MINIO_ROOT_PASSWORD: CREDENTIALS.secretAccessKey,
        MINIO_UPDATE: "off",
      },
      isReady: async (endpoint) => (await statusOf(`${endpoint}/minio/health/ready`)) === 200,
    }),
  },
  // Version 4.12 is the last that starts without an account.
  localstack: {
    version: LOCALSTACK_VERSION,
    needs: PYTHON,
    install: async (dir, run) => {
      await run("python3", ["-m", "venv", dir])
      const pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
      await run(join(dir, "bin/python"), [...pip, ...LOCALSTACK_PACKAGES])
    },
    program: "bin/python",
    foundOnPath: false,
    credentials: { accessKeyId: "test", secretAccessKey: "test" },
    // Any credentials will do, and racing completions of multipart uploads all succeed.
    lacks: ["credentials", "credentials-as-403", "racing-multipart"],
    launch: ([port], dataDir) => ({
      args: ["-m", "localstack.runtime.main", "--host"],
      env: {
        SERVICES: "s3",
        GATEWAY_LISTEN: `127.0.0.1:${port}`,
        FILESYSTEM_ROOT: dataDir,
        // Without these it sends usage events, fetches a certificate and serves DNS.
        DISABLE_EVENTS: "1",
        SKIP_SSL_CERT_DOWNLOAD: "1",
        DNS_ADDRESS: "0",
      },
      // The port answers before the services are there.
      isReady: (_endpoint, log) => log.includes("Ready."),
    }),
  },
  versitygw: {
    version: VERSITYGW_VERSION,
    needs: GO,
    install: (dir, run) =>
      run("go", ["install", `github.com/versity/versitygw/cmd/versitygw@${VERSITYGW_VERSION}`], {
        GOBIN: dir,
      }),
    program: "versitygw",
    foundOnPath: true,
    credentials: CREDENTIALS,
    lacks: ["keys-below-keys", "quiet-delete", "content-encoding", "encoding-type", "credentials-as-403"],
    launch: ([port], dataDir) => ({
      args: ["--port", `127.0.0.1:${port}`, "posix", dataDir],
      env: { ROOT_ACCESS_KEY: CREDENTIALS.accessKeyId, ROOT_SECRET_KEY: CREDENTIALS.secretAccessKey },
      // Any answer will do: without a signature it is 403.
      isReady: async (endpoint) => (await statusOf(endpoint)) > 0,
    }),
  },
}

// --- Installing ----------------------------------------------------------------------------------------------------

const installDir = (name: ServerName) => join(CACHE_DIR, `${name}-${RECIPES[name].version}`)

// Written when an installation is complete: one that was interrupted does not count.
const stampFile = (name: ServerName) => join(installDir(name), "installed")

/** Whether the pinned version of a server is in the cache, whole. */
export const isInstalled = (name: ServerName) => can(stampFile(name), constants.R_OK)

/** The program that starts a server: from the cache, else from the PATH; `undefined` if it is in neither. */
export async function findServer(name: ServerName): Promise<string | undefined> {
  const { program, foundOnPath } = RECIPES[name]
  if (await isInstalled(name)) return join(installDir(name), program)
  return foundOnPath ? findOnPath(program) : undefined
}

/** Installs the pinned version of a server into the cache. Throws when it can't, and names a program that is missing. */
export async function installServer(name: ServerName, run: Run): Promise<void> {
  const { needs, install } = RECIPES[name]
  if ((await findOnPath(needs.program)) === undefined) {
    throw new Error(`installing ${name} needs ${needs.program}, which is not on the PATH: ${needs.hint}`)
  }
  const dir = installDir(name)
  await rm(dir, { recursive: true, force: true })
  await mkdir(dir, { recursive: true })
  await install(dir, run)
  await writeFile(stampFile(name), "")
}

async function findOnPath(program: string): Promise<string | undefined> {
  for (const dir of (process.env.PATH ?? "").split(delimiter)) {
    const path = join(dir, program)
    if (dir !== "" && (await can(path, constants.X_OK))) return path
  }
  return undefined
}

async function can(path: string, mode: number): Promise<boolean> {
  try {
    await access(path, mode)
    return true
  } catch {
    return false
  }
}

// --- Running -------------------------------------------------------------------------------------------------------

// Runs a server so that it can't outlive us: our end of the shell's standard input closes when this process ends, even
// by SIGKILL. Its watcher then kills the server, removes the directory, and ends the whole process group. A server that
// ends by itself takes the watcher with it: the log must stay to be read.
const SUPERVISOR = `
dir=$1; shift
exec 3<&0
"$@" </dev/null 3<&- &
server=$!
( while read -r _ <&3; do :; done; trap '' TERM; kill -KILL $server; rm -rf "$dir"; kill -KILL 0 ) &
watcher=$!
wait $server
status=$?
kill -TERM $watcher
exit $status
`

// A server that takes the connection and then says nothing must not hold up the wait for it.
const statusOf = async (url: string) => (await fetch(url, { signal: AbortSignal.timeout(5_000) })).status

const START_TIMEOUT_MS = 120_000
const POLL_MS = 100

/**
 * Starts a server, by default the one that {@link findServer} finds, and waits until it answers. Throws if it is not
 * installed, or with its last lines of log when it ends or stays silent for two minutes.
 */
export async function startServer(name: ServerName, installed?: string): Promise<RunningServer> {
  const program = installed ?? (await findServer(name))
  if (program === undefined) throw new Error(`${name} is not installed: run \`npm run servers:install\``)
  const { credentials, lacks, launch } = RECIPES[name]
  const dir = await mkdtemp(join(tmpdir(), `vecsnap-${name}-`))
  const dataDir = join(dir, "data")
  await mkdir(dataDir)
  const ports = await freePorts()
  const { args, env, isReady } = launch(ports, dataDir)
  const logFile = join(dir, "log")
  const log = await open(logFile, "w")
  const child = spawn("/bin/sh", ["-c", SUPERVISOR, "sh", dir, program, ...args], {
    // A group of its own, to be ended as a whole.
    detached: true,
    stdio: ["pipe", log.fd, log.fd],
    cwd: dir,
    // Little else, so that settings, proxies and credentials of the person do not reach the server.
    env: { PATH: process.env.PATH, HOME: dir, TMPDIR: dir, ...env },
  })
  const ended = new Promise<string>((resolve) => {
    child.once("error", (error) => resolve(error.message))
    child.once("exit", (code, signal) => resolve(`exit ${code ?? signal}`))
  })
  await log.close()

  const killGroup = () => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL")
    } catch {
      // It has ended already.
    }
  }
  const atExit = () => {
    killGroup()
    rmSync(dir, { recursive: true, force: true })
  }
  process.once("exit", atExit)
  const stop = async () => {
    process.off("exit", atExit)
    killGroup()
    await ended
    await rm(dir, { recursive: true, force: true, maxRetries: 5 })
  }

  const endpoint = `http://127.0.0.1:${ports[0]}`
  try {
    await waitUntilReady(name, ended, async () => isReady(endpoint, await readFile(logFile, "utf8")))
  } catch (error) {
    const lastLines = (await readFile(logFile, "utf8")).trimEnd().split("\n").slice(-20).join("\n")
    await stop()
    throw new Error(`${(error as Error).message}; its last lines were:\n${lastLines}`)
  }
  return { name, endpoint, region: "us-east-1", ...credentials, lacks, stop }
}

async function waitUntilReady(
  name: string,
  ended: Promise<string>,
  isReady: () => Promise<boolean>,
): Promise<void> {
  const deadline = Date.now() + START_TIMEOUT_MS
  while (Date.now() < deadline) {
    if (await isReady().catch(() => false)) return
    const end = await Promise.race([ended, sleep(POLL_MS)])
    if (end !== undefined) throw new Error(`${name} ended while starting (${end})`)
  }
  throw new Error(`${name} was not ready after ${START_TIMEOUT_MS / 1000} s`)
}

/** Two ports that are free now. Another process may take one before the server does; its log then says so. */
async function freePorts(): Promise<[number, number]> {
  const probes = [createServer(), createServer()]
  const ports = await Promise.all(
    probes.map(
      (probe) =>
        new Promise<number>((resolve, reject) => {
          probe.once("error", reject)
          probe.listen(0, "127.0.0.1", () => resolve((probe.address() as AddressInfo).port))
        }),
    ),
  )
  await Promise.all(probes.map((probe) => new Promise((resolve) => probe.close(resolve))))
  return [ports[0]!, ports[1]!]
}
