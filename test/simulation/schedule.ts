/**
 * One schedule: a seed decides who works at a root, when, what goes wrong and in which order all of it happens.
 */
import { messageOf } from "../../src/errors.js"
import { builder, publisher, reader, rollback, type Scene, type Script, storeOf } from "./actors.js"
import { Bucket, type FaultRates, NO_FAULTS } from "./bucket.js"
import { Invariants, Violation } from "./invariants.js"
import { type Actor, type Chance, insideWorld, World } from "./world.js"

const GRACE_MS = 10 * 60_000
const HOUR_MS = 3_600_000

export interface Outcome {
  readonly seed: number
  readonly steps: number
  readonly publications: number
  readonly violation: Violation | undefined
}

/** Runs the schedule of a seed. `trace` gets a line for every step. */
export async function runSchedule(seed: number, trace?: (line: string) => void): Promise<Outcome> {
  const world = new World(seed, trace)
  return insideWorld(world, async () => {
    const stage = new Stage(world)
    const violation = await stage.play().then(
      () => undefined,
      (error) => {
        if (error instanceof Violation) return error
        throw new Error(`seed ${seed}: ${messageOf(error)}`, { cause: error })
      },
    )
    return { seed, steps: world.steps, publications: stage.invariants.pointer?.number ?? 0, violation }
  })
}

class Stage implements Scene {
  readonly world: World
  readonly bucket: Bucket
  readonly invariants: Invariants
  readonly graceMs = GRACE_MS
  readonly #chance: Chance
  #actors = 0
  #going = 0

  constructor(world: World) {
    this.world = world
    this.#chance = world.chance
    this.bucket = new Bucket(world, { preconditions: true, longestStallMs: 3 * GRACE_MS })
    this.invariants = new Invariants(world, this.bucket, { graceMs: GRACE_MS, onlyOneWins: true })
  }

  async play(): Promise<void> {
    await this.#prelude()
    await this.#turmoil()
    await this.#aftermath()
  }

  /** A root with some history. */
  async #prelude(): Promise<void> {
    const nights = this.#chance.below(4)
    for (let night = 0; night < nights; night++) {
      this.#start("builder", 0, builder({ publishes: true, refused: false }))
      await this.#run()
      await this.#run(this.#chance.happens(0.5) ? GRACE_MS : this.#chance.below(GRACE_MS / 2))
    }
  }

  /** Many at a time, and whatever may go wrong does. */
  async #turmoil(): Promise<void> {
    this.bucket.faults = drawFaults(this.#chance)
    const spanMs = this.#chance.pick([1000, 60_000, 20 * 60_000, 2 * HOUR_MS])
    const cast = 3 + this.#chance.below(8)
    for (let i = 0; i < cast; i++) {
      const { name, script } = drawRole(this.#chance)
      this.#start(name, this.#chance.below(spanMs), script)
    }
    await this.#run()
  }

  /** All is well again: what is garbage goes, and a night like any other succeeds. */
  async #aftermath(): Promise<void> {
    this.bucket.faults = NO_FAULTS
    await this.#run(GRACE_MS + HOUR_MS)
    const before = this.invariants.pointer?.number ?? 0
    this.#start("builder", 0, builder({ publishes: true, refused: false }))
    await this.#run()
    const after = this.invariants.pointer?.number ?? 0
    if (after !== before + 1) {
      this.invariants.fail(
        "a normal run succeeds after whatever happened",
        `publication ${before} was live before, ${after} after`,
      )
      this.invariants.check()
    }
  }

  #start(kind: string, delayMs: number, script: Script): void {
    const { world } = this
    const chance = this.#chance
    const actor: Actor = {
      name: `${kind}-${++this.#actors}`,
      skewMs: chance.happens(0.5) ? 0 : Math.round((chance.number() - 0.5) * 24 * HOUR_MS),
      latencyMs: chance.magnitude(2, 20_000),
      crashed: false,
      stalledUntilMs: 0,
      publishCall: -1,
    }
    this.#going++
    world.after(delayMs, actor, () => {
      world.log(actor, () => `starts, its clock off by ${Math.round(actor.skewMs / 1000)} s`)
      script(this, actor, storeOf(this, actor)).then(
        () => world.log(actor, () => "is done"),
        (error) => world.log(actor, () => `ends with ${messageOf(error)}`),
      )
    })
  }

  #run(ms?: number): Promise<void> {
    return this.world.run(this.invariants.check, ms)
  }
}

/** Each schedule has its own kinds of trouble, so that one does not hide another. */
function drawFaults(chance: Chance): FaultRates {
  if (chance.happens(0.1)) return NO_FAULTS
  const rate = (most: number): number => (chance.happens(0.5) ? 0 : chance.magnitude(most / 20, most))
  return {
    unavailable: rate(0.2),
    lostReply: rate(0.2),
    doubled: rate(0.1),
    late: rate(0.1),
    refused: rate(0.05),
    partialDelete: rate(0.3),
    crash: rate(0.03),
    stall: rate(0.05),
    nasty: chance.happens(0.5),
  }
}

function drawRole(chance: Chance): { readonly name: string; readonly script: Script } {
  return chance.pick([
    { name: "builder", script: builder({ publishes: true, refused: false }) },
    { name: "builder", script: builder({ publishes: true, refused: false }) },
    { name: "builder", script: builder({ publishes: false, refused: false }) },
    { name: "refused", script: builder({ publishes: true, refused: true }) },
    { name: "publisher", script: publisher },
    { name: "rollback", script: rollback },
    { name: "reader", script: reader },
    { name: "reader", script: reader },
  ])
}
