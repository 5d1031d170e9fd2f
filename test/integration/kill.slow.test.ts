/**
 * Processes that are killed in the middle of builds, publications and collections: at every write, one after the other, and at
 * random moments.
 */
import { mkdir, readdir } from "node:fs/promises"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { describe, expect, it } from "vitest"
import {
  collect,
  findManifest,
  openSnapshot,
  openStore,
  pin,
  readLive,
  readManifest,
} from "../../src/index.js"
import type { Halt, Operation, Outcome } from "../support/child-operator.js"
import { buildGeneration, hoursLater, keysNamedBy, STRICT } from "../support/generations.js"
import { generationIn, type Operator, soundGeneration, startOperator } from "../support/operators.js"
import { seededRandom } from "../support/records.js"
import { keysOf } from "../support/roots.js"
import { THOROUGH } from "../support/scope.js"
import { s3Root, type TestRoot, withTempDir } from "../support/stores.js"

const SEED = 2026
const RANDOM_KILLS = THOROUGH ? 3 : 1
const PHASES = ["build", "publish", "collect"] as const
type Phase = (typeof PHASES)[number]

interface KillPlan {
  /** Whether to kill at every write, or at every fourth unless tests are thorough. */
  readonly exact: boolean
  /** Kills at random moments, per phase. */
  readonly random: number
}

interface Kills {
  readonly exact: Record<Phase, number>
  readonly random: Record<Phase, number>
}

async function killAll(
  root: TestRoot,
  dir: string,
  { exact, random: randomKills }: KillPlan,
): Promise<Kills> {
  const store = openStore(root.url, root.store)
  const tempDir = join(dir, "tmp")
  await mkdir(tempDir)
  const random = seededRandom(SEED)
  const kills: Kills = {
    exact: { build: 0, publish: 0, collect: 0 },
    random: { build: 0, publish: 0, collect: 0 },
  }

  let generations = 0
  const nextGeneration = () => ({ generation: `g${generations++}`, tempDir })
  const build = async (publish: boolean): Promise<readonly [generation: string, run: string]> => {
    const next = nextGeneration()
    return [next.generation, (await buildGeneration(store, { ...next, publish })).run]
  }

  const [pinnedGeneration, pinned] = await build(true)
  await pin(store, pinned)
  let [live] = await build(true)
  const reader = await openSnapshot(root.url, { store: root.store, cacheDir: join(dir, "cache") })

  // A process takes longer to start than most of them live, so the next one starts meanwhile.
  let spare: Promise<Operator> = startOperator()
  const nextOperator = (): Promise<Operator> => {
    const operator = spare
    spare = startOperator()
    return operator
  }

  /** What to do in a phase, and the generation that is live if it has been done. Sets up what it needs. */
  async function prepare(phase: Phase): Promise<readonly [operation: Operation, after: string]> {
    if (phase === "build") {
      const next = nextGeneration()
      return [{ do: "build", ...next, publish: true }, next.generation]
    }
    const [generation, run] = await build(phase === "collect")
    if (phase === "publish") return [{ do: "publish", run }, generation]
    live = generation
    return [{ do: "collect" }, generation]
  }

  /** Has an operation done by a process of its own, and checks what is left when it ended, one way or the other. */
  async function attempt(
    phase: Phase,
    how: { readonly halt: Halt } | { readonly killAfterMs: number },
  ): Promise<Outcome | "killed"> {
    const [operation, after] = await prepare(phase)
    const operator = await nextOperator()
    const job = operator.start({ url: root.url, operation, ...("halt" in how && { halt: how.halt }) })
    if ("killAfterMs" in how) {
      await job.begun
      await sleep(how.killAfterMs)
      operator.kill()
    }
    const outcome = await job.outcome
    operator.kill()
    const found = await soundGeneration(store, reader)
    if (outcome === "killed") expect([live, after]).toContain(found)
    else {
      expect(outcome).toMatchObject({ done: true })
      expect(found).toBe(after)
    }
    live = found
    return outcome
  }

  try {
    for (const phase of PHASES) {
      let durationMs = 0
      // The last round is of a process that got to its end, as new as those that are killed at random.
      for (let number = exact ? 0 : Number.MAX_SAFE_INTEGER; durationMs === 0; number += THOROUGH ? 1 : 4) {
        const outcome = await attempt(phase, { halt: { number, among: "writes", act: "die" } })
        if (outcome === "killed") kills.exact[phase]++
        else if (outcome.done) durationMs = outcome.durationMs
      }
      for (let tries = 0; kills.random[phase] < randomKills && tries < 5 * randomKills + 10; tries++) {
        const outcome = await attempt(phase, { killAfterMs: random() * durationMs })
        if (outcome === "killed") kills.random[phase]++
      }
    }

    // Nothing that they left is in the way of a normal build, which also removes their temporary directories.
    const [generation, run] = await build(true)
    expect(await soundGeneration(store, reader)).toBe(generation)
    expect(await readdir(tempDir)).toEqual([])
    // The first ends the runs that say that they go on, the second removes their records.
    for (let i = 0; i < 2; i++) expect((await collect(hoursLater(store, 1), STRICT)).failed).toEqual([])
    const { pointer, manifest } = await readLive(store)
    expect(pointer).toMatchObject({ run, condemned: [] })
    const { key } = await findManifest(store, pinned)
    const kept = [
      { key, manifest: await readManifest(store, key) },
      { key: pointer.manifest, manifest },
    ]
    expect((await keysOf(store)).sort()).toEqual(keysNamedBy(kept, [pinned]))
    for (const [snapshot, expected] of [
      [run, generation],
      [pinned, pinnedGeneration],
    ] as const) {
      await using fresh = await openSnapshot(root.url, {
        store: root.store,
        cacheDir: join(dir, "fresh"),
        snapshot,
      })
      expect(await generationIn(fresh)).toBe(expected)
    }
    return kills
  } finally {
    await reader.close()
    const unused = await spare
    unused.kill()
    store.close()
  }
}

describe(`killed processes, seed ${SEED}`, () => {
  const leaveAllWell = "leave a snapshot live and whole, and nothing that stays"

  it(`${leaveAllWell}, on S3`, { timeout: 400_000 }, () =>
    withTempDir(async (dir) => {
      const { exact, random } = await killAll(s3Root("kill"), dir, { exact: true, random: RANDOM_KILLS })
      expect(random).toEqual({ build: RANDOM_KILLS, publish: RANDOM_KILLS, collect: RANDOM_KILLS })
      // One per write. There may be more one day; if there are fewer, some were not seen.
      expect(exact.build).toBeGreaterThanOrEqual(THOROUGH ? 11 : 3)
      expect(exact.publish).toBeGreaterThanOrEqual(THOROUGH ? 4 : 1)
      expect(exact.collect).toBeGreaterThanOrEqual(THOROUGH ? 9 : 3)
    }),
  )

  it(`${leaveAllWell}, in a directory`, { timeout: 400_000 }, () =>
    withTempDir(async (dir) => {
      const root = { url: join(dir, "root"), store: {} }
      const { random } = await killAll(root, dir, { exact: false, random: RANDOM_KILLS })
      expect(random).toEqual({ build: RANDOM_KILLS, publish: RANDOM_KILLS, collect: RANDOM_KILLS })
    }),
  )
})
