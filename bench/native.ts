/**
 * hnswlib and faiss, as native libraries with the rows in memory: what a search can cost where there is no
 * snapshot, no storage and no record. They run in a Python process with as many threads as the machine has
 * cores, which is asked in turn with the other sides.
 *
 * The packages are installed into a virtual environment in .cache/native-peers, once. Where that cannot be
 * had, these peers are left out, and it is said why.
 */
import { execFile, spawn } from "node:child_process"
import { existsSync, mkdirSync, writeFileSync } from "node:fs"
import { availableParallelism } from "node:os"
import { join } from "node:path"
import { createInterface } from "node:readline"
import { promisify } from "node:util"
import { encodeNpy } from "../src/vectors/npy.js"
import { fromRepository } from "./paths.js"
import type { SearchSet } from "./search-sets.js"
import type { Found } from "./support.js"

const run = promisify(execFile)

const ENVIRONMENT = fromRepository(".cache/native-peers")
const PACKAGES = ["numpy==2.4.6", "hnswlib==0.8.0", "faiss-cpu==1.15.1"]
const IMPORT = ["-c", "import faiss, hnswlib, numpy"]
/** How long a batch is repeated for a figure. */
const MEASURED_SECONDS = 0.5

export interface NativePeer {
  readonly name: string
  /** What is found with a number of candidates ("ef"). */
  find(queries: "tuning" | "measured", effort: number): Promise<Found["ids"]>
  /** Over batches of all measured queries. */
  measure(effort: number): Promise<{ readonly queriesPerSecond: number; readonly cpuMs: number }>
}

export interface NativePeers {
  readonly peers: readonly NativePeer[]
  close(): void
}

/** The Python that has the libraries, which are installed if they are not there; or why there is none. */
export async function nativePython(): Promise<{ readonly python: string } | { readonly missing: string }> {
  const python = join(ENVIRONMENT, "bin/python")
  try {
    if (existsSync(python) && (await works(python))) return { python }
    console.log(`installing ${PACKAGES.join(", ")} into ${ENVIRONMENT}`)
    await run("python3", ["-m", "venv", "--clear", ENVIRONMENT])
    await run(python, ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", ...PACKAGES])
    await run(python, IMPORT)
    return { python }
  } catch (error) {
    const { stderr, message } = error as { readonly stderr?: string; readonly message: string }
    const lines = (stderr || message).trim().split("\n")
    return { missing: lines.findLast((line) => /error/i.test(line)) ?? lines.at(-1)! }
  }
}

const works = (python: string): Promise<boolean> =>
  run(python, IMPORT).then(
    () => true,
    () => false,
  )

/** Hands the set over as files in `dir`, and builds the graphs there unless they are there. */
export async function startNative(
  python: string,
  dir: string,
  set: SearchSet,
  k: number,
): Promise<NativePeers> {
  mkdirSync(dir, { recursive: true })
  const { dim, ids } = set
  const write = (name: string, data: Float32Array): void =>
    writeFileSync(join(dir, `${name}.npy`), encodeNpy({ shape: [data.length / dim, dim], data }))
  write("rows", set.vectors)
  write("tuning", packed(set.tuning, dim))
  write("measured", packed(set.measured, dim))

  const threads = String(availableParallelism())
  const child = spawn(python, [fromRepository("bench/native.py"), dir, threads, String(k)], {
    // Threads that spin while they have nothing to do would take from whoever is measured next.
    env: { ...process.env, OMP_NUM_THREADS: threads, OMP_WAIT_POLICY: "PASSIVE" },
    stdio: ["pipe", "pipe", "inherit"],
  })
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const ask = async <T>(request: object): Promise<T> => {
    child.stdin.write(`${JSON.stringify(request)}\n`)
    const { value, done } = await lines.next()
    if (done) throw new Error("bench/native.py has ended")
    return JSON.parse(value) as T
  }
  const names = await ask<readonly string[]>({ do: "names" })
  return {
    peers: names.map((name, peer) => ({
      name,
      async find(queries, effort) {
        const rows = await ask<readonly (readonly number[])[]>({ do: "find", peer, queries, effort })
        return rows.map((found) => found.map((row) => ids[row]!))
      },
      measure: (effort) => ask({ do: "measure", peer, effort, seconds: MEASURED_SECONDS }),
    })),
    close: () => void child.stdin.end(),
  }
}

function packed(vectors: readonly Float32Array[], dim: number): Float32Array {
  const all = new Float32Array(vectors.length * dim)
  for (const [i, vector] of vectors.entries()) all.set(vector, i * dim)
  return all
}
