/**
 * How the process that reads shards is started: what it is told of this one, and what it may take.
 */
import { type ChildProcess, fork } from "node:child_process"
import { existsSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { machineLimits, readerDefaults } from "../../machine.js"
import type { Start } from "./protocol.js"

/**
 * What the process may know of our environment: where libraries, temporary files and the system are, and how
 * many threads to use. Credentials, proxies, options for Node and whatever else a service keeps there are not
 * among it, nor is the home directory with its files of credentials.
 */
const INHERITED: ReadonlySet<string> = new Set([
  "PATH",
  "LD_LIBRARY_PATH",
  "DYLD_LIBRARY_PATH",
  "TMPDIR",
  "TZ",
  "LANCE_CPU_THREADS",
  "LANCE_IO_THREADS",
  "RAYON_NUM_THREADS",
  "TOKIO_WORKER_THREADS",
  "UV_THREADPOOL_SIZE",
  // Windows, without which nothing starts there.
  "SYSTEMROOT",
  "WINDIR",
  "TEMP",
  "TMP",
])

/** The environment of the process. */
function childEnvironment(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(env).filter(([name]) => INHERITED.has(name.toUpperCase())))
}

const SHELL = "/bin/sh"

/**
 * Allocations a thread beyond what the process may hold, before the kernel refuses them: stacks, and what is
 * mapped and not used. Node 26 maps 520 MiB for every thread of JavaScript, Node 20 some 15.
 */
const MAPPED_BYTES = 2 ** 30

/**
 * Starts the process. Nothing of it reaches our output but the end of what it says on stderr, which is
 * `child.stderr`.
 *
 * On Linux, where there is a shell, the kernel bounds what it may allocate, so that one huge allocation fails
 * at once: by RLIMIT_DATA, which unlike RLIMIT_AS does not count what V8 and WebAssembly reserve and never
 * touch. Everywhere a thread inside looks at the memory that it holds (`watchdog.ts`).
 */
export function launch({ memoryBytes, pool }: Pick<Start, "memoryBytes" | "pool">): ChildProcess {
  const { workers = readerDefaults(machineLimits()).workers } = pool
  // The main one and the watchdog besides.
  const mappedBytes = (workers + 2) * MAPPED_BYTES
  const script = fileURLToPath(new URL("./child.js", import.meta.url))
  const limited = process.platform === "linux" && existsSync(SHELL)
  // Neither may fail: a limit may be lower already. No core files, which would hold what shards hold.
  const limits = `ulimit -c 0; ulimit -d ${Math.ceil((memoryBytes + mappedBytes) / 1024)}; exec "$0" "$@"`
  return fork(script, [], {
    // Without the flags of this process: a debugger's port, or --input-type.
    ...(limited ? { execPath: SHELL, execArgv: ["-c", limits, process.execPath] } : { execArgv: [] }),
    env: childEnvironment(process.env),
    serialization: "advanced",
    stdio: ["ignore", "ignore", "pipe", "ipc"],
  })
}
