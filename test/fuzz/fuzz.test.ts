/** Altered snapshots cost an error, no more. docs/security.md has a table of more cases, and what counts. */
import { rm } from "node:fs/promises"
import { join } from "node:path"
import { afterAll, beforeAll, expect, it } from "vitest"
import { sha256OfBytes } from "../../src/storage/checksum.js"
import { makeTempDir } from "../../src/storage/temp-dir.js"
import { ALL } from "../support/scope.js"
import { BASE_NAMES, type BaseName, type Objects, readBase, writeBase } from "./bases.js"
import { makeCase, unaltered } from "./case.js"
import { chanceOf, seedOf } from "./chance.js"
import { BAD, describe, fuzz, prepareBases, taskOf } from "./fuzz.js"
import { Player } from "./pool.js"

const CASES = ALL ? 300 : 24
const SEED = 1

let dir: string
beforeAll(async () => {
  dir = await makeTempDir(undefined, "vecsnap-fuzz")
  await prepareBases(bases())
})
afterAll(() => rm(dir, { recursive: true, force: true }))

it(`${CASES} altered snapshots: no wrong answer, no crash, no hang, no more memory than there is`, {
  timeout: 900_000,
}, async () => {
  const results = await fuzz({ cases: CASES, seed: SEED, processes: 2, dir })
  expect(results.filter(({ outcome }) => BAD.includes(outcome)).map(describe)).toEqual([])
  expect(results).toHaveLength(CASES)
  // It tries something: most cases are noticed, and not all.
  const errors = results.filter(({ outcome }) => outcome === "error").length
  expect(errors).toBeGreaterThan(CASES / 4)
  expect(errors).toBeLessThan(CASES)
})

const bases = (): string => join(dir, "bases")
const unalteredTask = async (base: BaseName) => {
  const objects = await readBase(join(bases(), base))
  return taskOf(base, objects, unaltered(objects), true)
}

async function played<T>(player: Player, work: (player: Player) => Promise<T>): Promise<T> {
  try {
    return await work(player)
  } finally {
    player.close()
  }
}

it.runIf(ALL)("the bases as they are give right answers to everything that is asked", async () => {
  await played(new Player(bases(), join(dir, "unaltered")), async (player) => {
    for (const base of BASE_NAMES) {
      const { outcome, reasons } = await player.play(await unalteredTask(base))
      expect({ base, outcome, reasons }).toEqual({ base, outcome: "right", reasons: [] })
    }
  })
})

it("a process that is slow, takes much memory or dies is told from one that answers", async () => {
  const outcomes: string[] = []
  const cel = await unalteredTask("cel")
  const limits = [
    { ms: 1, bytes: 2 ** 40 },
    { ms: 60_000, bytes: 1000 },
  ]
  for (const [i, limit] of limits.entries()) {
    const player = new Player(bases(), join(dir, `limited-${i}`), limit)
    outcomes.push((await played(player, () => player.play(cel))).outcome)
  }
  const player = new Player(bases(), join(dir, "killed"))
  await played(player, async () => {
    const playing = player.play(cel)
    process.kill(player.pid!, "SIGSEGV")
    outcomes.push((await playing).outcome, (await player.play(cel)).outcome)
  })
  expect(outcomes).toEqual(["hang", "memory", "crash", "right"])
})

it("a case is the same whenever it is made", async () => {
  const digests = (objects: Objects) => Array.from(objects, ([key, body]) => `${key} ${sha256OfBytes(body)}`)
  const objects = await readBase(join(bases(), "plain"))
  for (let number = 0; number < 20; number++) {
    const [first, second] = [0, 1].map(() => makeCase(objects, chanceOf(seedOf(SEED, number))))
    expect(second!.what).toBe(first!.what)
    expect(digests(second!.objects)).toEqual(digests(first!.objects))
  }
  await writeBase("cel", join(dir, "again"))
  expect(digests(await readBase(join(dir, "again")))).toEqual(digests(await readBase(join(bases(), "cel"))))
})
