/**
 * One schedule: a seed decides who works at a root, when, what goes wrong and in which order all of it happens.
 */
import { messageOf } from "../../src/errors.js"
import {
  builder,
  collector,
  pinner,
  publisher,
  reader,
  rollback,
  type Scene,
  type Script,
  storeOf,
} from "./actors.js"
import { Bucket, type FaultRates, LATEST_ARRIVAL_MS, NO_FAULTS } from "./bucket.js"
import { Invariants, Violation } from "./invariants.js"
import { type Actor, type Chance, insideWorld, World } from "./world.js"

const GRACE_MS = 10 * 60_000
const HOUR_MS = 3_600_000
/** After which no garbage may be left. */
const COLLECTIONS = 4

/**
 * What the store and those who work there have promised each other.
 *
 * - `conditional`: the store heeds preconditions. Everything must hold, whoever does what and when.
 * - `one at a time`: it ignores them, but nobody writes while another does, as docs/operations.md asks for. Everything must
 *   hold then too.
 * - `no collection`: it ignores them, several publish at a time, and nobody collects meanwhile. Of two publications one may
 *   undo the other, so it is not looked at who won; all else must hold.
 */
export const MODES = ["conditional", "one at a time", "no collection"] as const
export type Mode = (typeof MODES)[number]

/** Most schedules are with conditions, one of eight is without. */
export const modeOf = (seed: number): Mode =>
  seed % 16 === 0 ? "one at a time" : seed % 16 === 8 ? "no collection" : "conditional"

/** What has happened. */
export interface Counts {
  readonly steps: number
  readonly publications: number
  readonly crashes: number
  readonly stalls: number
  /** Objects removed. */
  readonly removed: number
}

export interface Outcome {
  readonly seed: number
  readonly mode: Mode
  readonly counts: Counts
  readonly violation: Violation | undefined
}

export interface ScheduleOptions {
  /** Gets a line for every step. */
  readonly trace?: ((line: string) => void) | undefined
  /** Breaks the promise of the mode: the store ignores preconditions. To see that the simulation finds it. */
  readonly broken?: boolean
}

/** Runs the schedule of a seed. */
export async function runSchedule(
  seed: number,
  { trace, broken = false }: ScheduleOptions = {},
): Promise<Outcome> {
  const world = new World(seed, trace)
  const mode = modeOf(seed)
  return insideWorld(world, async () => {
    const stage = new Stage(world, mode, mode === "conditional" && !broken)
    const violation = await stage.play().then(
      () => undefined,
      (error) => {
        if (error instanceof Violation) return error
        throw new Error(`seed ${seed}: ${messageOf(error)}`, { cause: error })
      },
    )
    return { seed, mode, counts: stage.counts(), violation }
  })
}

class Stage implements Scene {
  readonly world: World
  readonly bucket: Bucket
  readonly invariants: Invariants
  readonly graceMs = GRACE_MS
  readonly #chance: Chance
  readonly #mode: Mode
  #actors = 0

  constructor(world: World, mode: Mode, preconditions: boolean) {
    this.world = world
    this.#mode = mode
    this.#chance = world.chance
    this.bucket = new Bucket(world, { preconditions, longestStallMs: 3 * GRACE_MS })
    const onlyOneWins = mode !== "no collection"
    this.invariants = new Invariants(world, this.bucket, { graceMs: GRACE_MS, onlyOneWins })
  }

  counts(): Counts {
    const { steps, crashes } = this.world
    const { pointer, removed } = this.invariants
    return { steps, crashes, removed, stalls: this.bucket.stalls, publications: pointer?.number ?? 0 }
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
    const isSerial = this.#mode === "one at a time"
    for (const { name, script } of drawCast(this.#chance)) {
      if (name === "collector" && this.#mode === "no collection") continue
      this.#start(name, isSerial ? 0 : this.#chance.below(spanMs), script)
      if (isSerial && name !== "reader") await this.#run()
      if (isSerial) await this.#run(LATEST_ARRIVAL_MS)
    }
    await this.#run()
  }

  /** All is well again: what is garbage goes, and a night like any other succeeds. */
  async #aftermath(): Promise<void> {
    this.bucket.faults = NO_FAULTS
    await this.#run(GRACE_MS + HOUR_MS)
    await this.#nightSucceeds()
    await this.#run(GRACE_MS + HOUR_MS)
    await this.#garbageGoes()
  }

  async #nightSucceeds(): Promise<void> {
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

  /** A dead run is ended by one collection and its files go with a later one, so it takes some. */
  async #garbageGoes(): Promise<void> {
    const keepLast = 1 + this.#chance.below(2)
    for (let round = 0; round < COLLECTIONS; round++) {
      this.#start("collector", 0, collector(keepLast))
      await this.#run()
      await this.#run(GRACE_MS + HOUR_MS)
    }
    this.invariants.checkNoGarbage(keepLast)
    this.invariants.check()
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
      stalls: 0,
    }
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

interface Role {
  readonly name: string
  readonly script: Script
}

/** Who takes part: everybody, or few kinds, so that those meet in the same moment again and again. */
function drawCast(chance: Chance): readonly Role[] {
  const roles: readonly Role[] = [
    { name: "builder", script: builder({ publishes: true, refused: false }) },
    { name: "builder", script: builder({ publishes: true, refused: false }) },
    { name: "unpublished", script: builder({ publishes: false, refused: false }) },
    { name: "refused", script: builder({ publishes: true, refused: true }) },
    { name: "publisher", script: publisher },
    { name: "rollback", script: rollback },
    { name: "reader", script: reader(false) },
    { name: "reader", script: reader(true) },
    { name: "pinner", script: pinner },
    { name: "collector", script: collector(2) },
    { name: "collector", script: collector(1) },
    { name: "collector", script: collector(1) },
  ]
  const kinds = chance.happens(0.4)
    ? roles
    : [chance.pick(roles), chance.pick(roles), { name: "collector", script: collector(1) }]
  return Array.from({ length: 3 + chance.below(8) }, () => chance.pick(kinds))
}
