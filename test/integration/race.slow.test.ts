/**
 * Processes that publish, roll back and collect at the same root at the same moment, and one that sleeps through a
 * collection. A process that waits at a call to the store while another goes from its beginning to its end makes an
 * order of events certain; processes that go on at the same time make all others possible.
 */
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { describe, expect, it } from "vitest"
import {
  collect,
  type LivePointer,
  listRuns,
  type ObjectStore,
  openStore,
  readLive,
  readPointer,
  verifyRoot,
} from "../../src/index.js"
import { publicationsOf } from "../../src/manifest/pointer.js"
import type { Halt, Operation, Outcome } from "../support/child-operator.js"
import { finished, startCli } from "../support/cli.js"
import { buildGeneration, hoursLater, keysNamedBy, STRICT } from "../support/generations.js"
import { type Job, type Operator, startOperator } from "../support/operators.js"
import { seededRandom } from "../support/records.js"
import { keysOf } from "../support/roots.js"
import { THOROUGH } from "../support/scope.js"
import { s3Root, withTempDir } from "../support/stores.js"

const SEED = 2026
/** Of the calls at which one may sleep, every so many are tried. The simulation tries them at random. */
const STEP = THOROUGH ? 1 : 11
const PUBLISHER_RACES = THOROUGH ? 50 : 5
const OTHER_RACES = THOROUGH ? 12 : 2

const AT_POINTER: Halt = { number: 0, among: "writes", key: "_CURRENT", act: "wait" }
const atCall = (number: number): Halt => ({ number, among: "calls", act: "wait" })

interface Arena {
  readonly url: string
  readonly store: ObjectStore
  readonly operators: readonly [Operator, Operator]
  /** Builds a generation in this process. Returns its run. */
  build(publish: boolean): Promise<string>
  /** What tells an operator to build a generation. */
  buildOperation(publish: boolean): Operation
  pointer(): Promise<LivePointer>
}

/** A root on S3 with one live snapshot, and two processes. */
async function withArena(use: (arena: Arena) => Promise<void>): Promise<void> {
  await withTempDir(async (dir) => {
    const { url, store: options } = s3Root("race")
    const store = openStore(url, options)
    let generations = 0
    const next = () => ({ generation: `g${generations++}`, tempDir: dir })
    const build = async (publish: boolean) => (await buildGeneration(store, { ...next(), publish })).run
    const operators = await Promise.all([startOperator(), startOperator()])
    try {
      await build(true)
      await use({
        url,
        store,
        operators,
        build,
        buildOperation: (publish) => ({ do: "build", ...next(), publish }),
        pointer: async () => (await readPointer(store))!,
      })
      expect((await verifyRoot(store, { deep: true })).faults).toEqual([])
    } finally {
      for (const operator of operators) operator.kill()
      store.close()
    }
  })
}

/** Has both do their operation, each from its halt on at the same time. Neither must end before it is there. */
async function together(
  { url, operators }: Arena,
  operations: readonly [Operation, Operation],
  halts: readonly [Halt, Halt],
): Promise<readonly [Outcome | "killed", Outcome | "killed"]> {
  const jobs = [0, 1].map((i) =>
    operators[i]!.start({ url, operation: operations[i]!, halt: halts[i]! }),
  ) as [Job, Job]
  await Promise.all(jobs.map(({ waiting }) => waiting))
  for (const job of jobs) job.proceed()
  return Promise.all([jobs[0].outcome, jobs[1].outcome])
}

/** Has the first wait at its halt until the second is done. `halted` is false if the first ended without getting there. */
async function during(
  { url, operators: [first, second] }: Arena,
  operations: readonly [Operation, Operation],
  halt: Halt,
): Promise<{ outcomes: readonly [Outcome | "killed", Outcome | "killed"]; halted: boolean }> {
  const job = first.start({ url, operation: operations[0], halt })
  const halted = await job.waiting
  const other = await second.start({ url, operation: operations[1] }).outcome
  if (halted) job.proceed()
  return { outcomes: [await job.outcome, other], halted }
}

const isDone = (outcome: Outcome | "killed"): boolean => outcome !== "killed" && outcome.done
const tagOf = (outcome: Outcome | "killed"): string | undefined =>
  outcome === "killed" ? "killed" : outcome.done ? undefined : outcome.tag

/** Fails unless every snapshot has all its files, by size, as must be after each round. What is in them, no race changes. */
async function expectSound(store: ObjectStore): Promise<void> {
  expect((await verifyRoot(store, { snapshot: "all" })).faults).toEqual([])
}

/** Which of two won a race, of which one must have; the other has met a conflict. */
async function winnerOf(
  arena: Arena,
  before: LivePointer,
  outcomes: readonly (Outcome | "killed")[],
): Promise<string> {
  expect(outcomes.map(tagOf).sort()).toEqual(["Conflict", undefined])
  const after = await arena.pointer()
  expect(outcomes.filter(isDone)).toMatchObject([{ run: after.run }])
  expect(after.number).toBe(before.number + 1)
  return after.run
}

describe(`races, seed ${SEED}`, () => {
  it(`of two publishers are won by one of them, ${PUBLISHER_RACES} times`, { timeout: 400_000 }, () =>
    withArena(async (arena) => {
      const { store, url, operators } = arena
      const first = await arena.pointer()
      const winners = [first.run]
      for (let round = 0; round < PUBLISHER_RACES; round++) {
        const before = await arena.pointer()
        const built = await Promise.all(
          operators.map(
            (operator) => operator.start({ url, operation: arena.buildOperation(false) }).outcome,
          ),
        )
        const [a, b] = built.map((outcome): Operation => {
          if (outcome === "killed" || !outcome.done) throw new Error(`not built: ${JSON.stringify(outcome)}`)
          return { do: "publish", run: outcome.run! }
        }) as [Operation, Operation]
        const outcomes =
          round % 3 === 0
            ? (await during(arena, [a, b], AT_POINTER)).outcomes
            : await together(
                arena,
                [a, b],
                round % 3 === 1 ? [atCall(0), atCall(0)] : [AT_POINTER, AT_POINTER],
              )
        winners.push(await winnerOf(arena, before, outcomes))
      }
      const publications = [...publicationsOf(await arena.pointer())].reverse()
      expect(publications.map(({ run }) => run)).toEqual(winners)
      expect(publications.map(({ number }) => number)).toEqual(winners.map((_, i) => first.number + i))
      expect(new Set(winners).size).toBe(PUBLISHER_RACES + 1)
      await expectSound(store)
      // What the losers have built goes with a collection.
      await collect(hoursLater(store, 1), STRICT)
      await collect(hoursLater(store, 1), STRICT)
      const { pointer, manifest } = await readLive(store)
      expect((await keysOf(store)).sort()).toEqual(keysNamedBy([{ key: pointer.manifest, manifest }]))
      await expectSound(store)
    }),
  )

  it("of two builds, and of a publisher and a rollback, are won by one of them", () =>
    withArena(async (arena) => {
      for (let round = 0; round < OTHER_RACES; round++) {
        const target = await arena.pointer()
        const isBuild = round % 2 === 0
        if (!isBuild) await arena.build(true)
        const before = await arena.pointer()
        const operations: [Operation, Operation] = isBuild
          ? [arena.buildOperation(true), arena.buildOperation(true)]
          : [
              { do: "publish", run: await arena.build(false) },
              { do: "rollback", to: target.run },
            ]
        const outcomes =
          round % 4 < 2
            ? await together(arena, operations, [AT_POINTER, AT_POINTER])
            : (
                await during(
                  arena,
                  round % 3 === 0 ? operations : (operations.reverse() as typeof operations),
                  AT_POINTER,
                )
              ).outcomes
        await winnerOf(arena, before, outcomes)
        await expectSound(arena.store)
      }
    }))

  describe.each(["publish", "rollback"] as const)(
    "of a %s and a collection that removes what it makes live",
    (mover) => {
      /** Sets up a race. The collection would remove the snapshot that the other makes live. */
      async function prepare(arena: Arena): Promise<{ before: LivePointer; run: string; move: Operation }> {
        if (mover === "publish") {
          const run = await arena.build(false)
          return { before: await arena.pointer(), run, move: { do: "publish", run } }
        }
        const { run } = await arena.pointer()
        await arena.build(true)
        return { before: await arena.pointer(), run, move: { do: "rollback", to: run } }
      }

      /** Whether what is live is whole, and is what it must be after these outcomes. True if the mover has won. */
      async function settle(
        { store, pointer }: Arena,
        { before, run }: { readonly before: LivePointer; readonly run: string },
        moved: Outcome | "killed",
        collected: Outcome | "killed",
      ): Promise<boolean> {
        const after = await pointer()
        if (isDone(moved)) expect(after).toMatchObject({ run, number: before.number + 1 })
        else {
          // Unavailable: the collection came an hour later, and took the object that asked for the time.
          expect(["NotFound", "Conflict", "Corrupt", "Unavailable"]).toContain(tagOf(moved))
          expect(after).toMatchObject({ run: before.run, number: before.number })
        }
        expect([undefined, "Conflict"]).toContain(tagOf(collected))
        await expectSound(store)
        return isDone(moved)
      }

      it("leave a whole snapshot live, wherever one sleeps while the other works", { timeout: 400_000 }, () =>
        withArena(async (arena) => {
          const wins = { mover: 0, collection: 0 }
          for (const sleeper of [0, 1]) {
            for (let number = sleeper, halted = true; halted; number += STEP) {
              const race = await prepare(arena)
              const operations: [Operation, Operation] =
                sleeper === 0 ? [race.move, { do: "collect" }] : [{ do: "collect" }, race.move]
              const result = await during(arena, operations, atCall(number))
              halted = result.halted
              const won = await settle(arena, race, result.outcomes[sleeper]!, result.outcomes[1 - sleeper]!)
              wins[won ? "mover" : "collection"]++
            }
          }
          expect(wins.mover).toBeGreaterThan(0)
          expect(wins.collection).toBeGreaterThan(0)
        }),
      )

      it("leave a whole snapshot live when both go on from anywhere", { timeout: 400_000 }, () =>
        withArena(async (arena) => {
          const random = seededRandom(SEED)
          for (let round = 0; round < OTHER_RACES; round++) {
            const race = await prepare(arena)
            const halts = [atCall(Math.floor(random() * 12)), atCall(Math.floor(random() * 20))] as const
            const outcomes = await together(arena, [race.move, { do: "collect" }], halts)
            await settle(arena, race, ...outcomes)
          }
        }),
      )
    },
  )
})

describe("a build that sleeps for longer than its lease and the grace period", () => {
  it("ends without publishing, wherever it slept", { timeout: 400_000 }, () =>
    withArena(async (arena) => {
      const { url, store, operators } = arena
      const [sleeper] = operators
      const tags: (string | undefined)[] = []
      for (let number = 0, halted = true; halted; number += THOROUGH ? 1 : 4) {
        const before = await arena.pointer()
        const halt: Halt = { number, among: "writes", act: "wait" }
        const job = sleeper.start({ url, operation: arena.buildOperation(true), halt })
        halted = await job.waiting
        if (halted) {
          sleeper.process.kill("SIGSTOP")
          for (let i = 0; i < 2; i++) await collect(hoursLater(store, 1), STRICT)
          sleeper.process.kill("SIGCONT")
          job.proceed()
        }
        const outcome = await job.outcome
        tags.push(tagOf(outcome))
        const after = await arena.pointer()
        expect(after.number).toBe(before.number + (isDone(outcome) ? 1 : 0))
        if (isDone(outcome)) expect(outcome).toMatchObject({ run: after.run })
        // A manifest that was written after the collection names files that it has removed; it is never live.
        expect((await verifyRoot(store)).faults).toEqual([])
      }
      // Asleep before the run was registered, or after its snapshot was live: no harm is done. Else the lease is lost.
      const [first, ...rest] = tags
      expect(first).toBeUndefined()
      const lost = rest.slice(0, rest.indexOf(undefined))
      expect(lost.length).toBeGreaterThanOrEqual(THOROUGH ? 9 : 2)
      expect(new Set(lost)).toEqual(new Set(["Conflict"]))
      expect(new Set(rest.slice(lost.length))).toEqual(new Set([undefined]))
    }),
  )

  it("ends the command line with the exit code for a conflict", () =>
    withTempDir(async (dir) => {
      const root = join(dir, "root")
      const store = openStore(root)
      const live = await buildGeneration(store, { generation: "live", publish: true, tempDir: dir })
      const child = startCli(
        [
          "build",
          "-",
          "--format",
          "jsonl",
          "--to",
          root,
          "--strategy",
          "lsh",
          "--shards",
          "2",
          "--temp-dir",
          dir,
        ],
        {},
        "pipe",
      )
      const end = finished(child)
      // It has begun, and waits for its input.
      const isRunning = async () => (await listRuns(store)).some(({ run }) => run !== live.run)
      while (!(await isRunning())) await sleep(20)
      child.kill("SIGSTOP")
      await collect(hoursLater(store, 1), STRICT)
      child.kill("SIGCONT")
      child.stdin!.end('{"id":"a","vector":[1,0,0,0]}\n{"id":"b","vector":[0,1,0,0]}\n')
      const { code, stderr } = await end
      expect(stderr).toContain("has lost its lease")
      expect(code).toBe(4)
      expect(await readPointer(store)).toMatchObject({ run: live.run, number: 1 })
      await expectSound(store)
    }))
})
