/**
 * Scenarios: few actors who meet in exactly the moment that a mechanism is for, in the same world and under the same invariants as
 * the schedules. What chance brings about once in thousands of schedules happens here every time.
 */
import { unavailable } from "../../src/errors.js"
import { collect } from "../../src/maintenance/gc/collect.js"
import { pin, unpin } from "../../src/maintenance/pins.js"
import { readManifest, readPointer } from "../../src/manifest/current.js"
import { findManifest, listManifests } from "../../src/manifest/history.js"
import { POINTER_KEY } from "../../src/manifest/keys.js"
import { withCondemned } from "../../src/manifest/pointer.js"
import { swapPointer } from "../../src/manifest/publish.js"
import { snapshotFiles } from "../../src/snapshot/snapshot.js"
import { createRetry } from "../../src/storage/retry.js"
import type { ObjectStore } from "../../src/storage/store.js"
import { withRetry } from "../../src/storage/with-retry.js"
import { builder, LEASE_SECONDS, publish, reader, type Scene } from "./actors.js"
import { Bucket } from "./bucket.js"
import { Invariants } from "./invariants.js"
import { type Actor, insideWorld, World } from "./world.js"

const GRACE_MS = 10 * 60_000
const LEASE_MS = LEASE_SECONDS * 1000
const COLLECT_OPTIONS = { yes: true, keepLast: 1, graceSeconds: GRACE_MS / 1000, keepUnpublishedDays: 0 }

export interface Scenario {
  readonly name: string
  /** Rejects if what must hold does not. */
  readonly play: () => Promise<void>
}

/** Comes around the first request that `matches`. */
interface Hook {
  readonly matches: (operation: string, key: string) => boolean
  readonly around: <T>(send: () => Promise<T>, actor: Actor) => Promise<T>
}

class Stage implements Scene {
  readonly world = new World(1)
  readonly bucket = new Bucket(this.world, { preconditions: true, longestStallMs: 1 })
  readonly invariants = new Invariants(this.world, this.bucket, { graceMs: GRACE_MS, onlyOneWins: true })
  readonly graceMs = GRACE_MS
  readonly #director = this.#actor("director")

  #actor(name: string): Actor {
    const idle = { crashed: false, stalledUntilMs: 0, publishCall: -1, stalls: 0 }
    return { name, skewMs: 0, latencyMs: 100, ...idle }
  }

  /** Plays to the end, or to the first step after which an invariant does not hold. */
  async play(plot: (stage: Stage) => Promise<void>): Promise<void> {
    let isOver = false
    const over = plot(this).finally(() => {
      isOver = true
    })
    over.catch(() => {})
    await this.world.run(this.invariants.check)
    if (!isOver) throw new Error("the scenario stands still")
    await over
  }

  pass(ms: number): Promise<void> {
    return this.world.sleep(this.#director, ms)
  }

  /** A process and its store, with what is to happen around some of its requests. */
  enter(name: string, ...hooks: readonly Hook[]): { readonly actor: Actor; readonly store: ObjectStore } {
    const actor = this.#actor(name)
    const inner = this.bucket.openFor(actor)
    const pending = new Set(hooks)
    const meet = <T>(operation: string, key: string, send: () => Promise<T>): Promise<T> => {
      for (const hook of pending) {
        if (!hook.matches(operation, key)) continue
        pending.delete(hook)
        return hook.around(send, actor)
      }
      return send()
    }
    const hooked: ObjectStore = {
      ...inner,
      get: (key, options) => meet("get", key, () => inner.get(key, options)),
      put: (key, body, options) => meet("put", key, () => inner.put(key, body, options)),
      async *list(prefix, options) {
        await meet("list", prefix, async () => {})
        yield* inner.list(prefix, options)
      },
      delete: (keys, options) => meet("delete", keys[0]!, () => inner.delete(keys, options)),
    }
    const store = withRetry(hooked, createRetry({ attempts: 4, totalMs: 30_000 }, this.world.clockOf(actor)))
    return { actor, store }
  }

  /** A build that publishes. Returns its run. */
  async night(...hooks: readonly Hook[]): Promise<string> {
    const { actor, store } = this.enter("builder", ...hooks)
    await builder({ publishes: true, refused: false })(this, actor, store)
    return this.invariants.pointer!.run
  }

  /** Somebody makes a snapshot live, or is refused. */
  async publish(run: string, ...hooks: readonly Hook[]): Promise<void> {
    const { actor, store } = this.enter("publisher", ...hooks)
    const expected = await readPointer(store)
    const { key } = await findManifest(store, run)
    const manifest = await readManifest(store, key)
    await publish(this, actor, store, key, manifest, { action: "publish", explicit: true, expected })
  }

  async collect(...hooks: readonly Hook[]): Promise<void> {
    await collect(this.enter("collector", ...hooks).store, COLLECT_OPTIONS)
  }

  async pin(run: string, ...hooks: readonly Hook[]): Promise<void> {
    const { store } = this.enter("pinner", ...hooks)
    const begunMs = this.world.nowMs
    await pin(store, run)
    this.invariants.pins.acknowledge(run, begunMs)
  }

  async unpin(run: string): Promise<void> {
    this.invariants.pins.unpinning(run)
    await unpin(this.enter("pinner").store, run)
    this.invariants.pins.unpinned(run)
  }

  async condemn(run: string): Promise<void> {
    const { store } = this.enter("collector")
    const live = (await readPointer(store))!
    await swapPointer(store, live, withCondemned(live, [run]))
  }

  /** A snapshot that may go, and one that is live. */
  async twoNights(): Promise<{ readonly old: string; readonly live: string }> {
    const old = await this.night()
    const live = await this.night()
    await this.pass(2 * GRACE_MS)
    return { old, live }
  }
}

const isOn = (operation: string, keyStart: string) => (actual: string, key: string) =>
  actual === operation && key.startsWith(keyStart)

/** Each time but the first `skipped` times. */
function later(skipped: number, matches: Hook["matches"]): Hook["matches"] {
  let seen = 0
  return (operation, key) => matches(operation, key) && ++seen > skipped
}

/** Before the request, `act` happens; with `stands`, nothing of the process goes on meanwhile, its heartbeat neither. */
const before = (matches: Hook["matches"], act: () => Promise<unknown>, stands = false): Hook => ({
  matches,
  async around(send, actor) {
    if (stands) actor.stalledUntilMs = Number.MAX_SAFE_INTEGER
    await act()
    actor.stalledUntilMs = 0
    return send()
  },
})

/** A process that stands still until it is told to go on. */
function stopBefore(
  matches: Hook["matches"],
  stands = false,
): { readonly hook: Hook; readonly moment: { readonly reached: Promise<void>; readonly goOn: () => void } } {
  let goOn = (): void => {}
  let reach = (): void => {}
  const reached = new Promise<void>((resolve) => {
    reach = resolve
  })
  const mayGoOn = new Promise<void>((resolve) => {
    goOn = resolve
  })
  const stop = (): Promise<void> => {
    reach()
    return mayGoOn
  }
  return { hook: before(matches, stop, stands), moment: { reached, goOn } }
}

const FORCED = builder({ publishes: true, refused: false, forced: true })

const isRefused = (work: Promise<unknown>): Promise<unknown> => work.catch(() => {})

const THERE_IS_A_REMOVAL = isOn("delete", "manifests/")

const scenario = (
  name: string,
  plot: (stage: Stage) => Promise<void>,
  { reuses = false }: { reuses?: boolean } = {},
): Scenario => ({
  name,
  play: () => {
    const stage = new Stage()
    // Builders reuse all shards of their base, or none.
    stage.world.chance.happens = (probability) => reuses && probability === 0.5
    return insideWorld(stage.world, () => stage.play(plot))
  },
})

export const SCENARIOS: readonly Scenario[] = [
  scenario("a publication is replaced before its publisher gets the reply, which is lost", async (stage) => {
    const { old } = await stage.twoNights()
    await stage.publish(old, {
      matches: isOn("put", POINTER_KEY),
      async around(send) {
        await send()
        await stage.night()
        throw unavailable("the store does not answer")
      },
    })
  }),

  scenario("a run is published, and after it what a collection is about to remove", async (stage) => {
    const { old } = await stage.twoNights()
    await stage.collect(
      before(THERE_IS_A_REMOVAL, async () => {
        await stage.night()
        await isRefused(stage.publish(old))
      }),
    )
  }),

  scenario("a run stands still before it notes its base, which a collection removes", async (stage) => {
    await stage.night()
    const { moment, hook } = stopBefore(isOn("put", "runs/"))
    const building = isRefused(stage.night(hook))
    await moment.reached
    await stage.night()
    await stage.pass(2 * GRACE_MS)
    await stage.collect(
      before(THERE_IS_A_REMOVAL, async () => {
        moment.goOn()
        // It notes its base, and is not done yet.
        await stage.pass(500)
      }),
    )
    await building
  }),

  scenario("a run that takes long and renews its lease meets a collection", async (stage) => {
    await stage.night()
    const { moment, hook } = stopBefore(isOn("put", "manifests/"))
    const building = stage.night(hook)
    await moment.reached
    await stage.pass(2 * GRACE_MS + LEASE_MS)
    await stage.collect()
    moment.goOn()
    await building
  }),

  scenario("a run goes on when its base was replaced long ago", async (stage) => {
    await stage.night()
    const { moment, hook } = stopBefore(isOn("put", "manifests/"))
    const building = isRefused(stage.night(hook))
    await moment.reached
    await stage.night()
    await stage.pass(2 * GRACE_MS)
    await stage.collect()
    moment.goOn()
    await building
  }),

  scenario("a reader with a lease has open what was replaced long ago", async (stage) => {
    await stage.night()
    const { actor, store } = stage.enter("reader")
    const reading = reader(true)(stage, actor, store)
    await stage.pass(5000)
    await stage.night()
    await stage.pass(2 * GRACE_MS)
    await stage.collect()
    await reading
  }),

  scenario("a run does not get the reply to the write of its manifest", async (stage) => {
    await stage.night({
      matches: isOn("put", "manifests/"),
      async around(send) {
        await send()
        throw unavailable("the store does not answer")
      },
    })
  }),

  scenario("a snapshot is removed after its manifest was read to publish it", async (stage) => {
    const { old } = await stage.twoNights()
    const pointerAgain = later(1, isOn("get", POINTER_KEY))
    await isRefused(
      stage.publish(
        old,
        before(pointerAgain, () => stage.collect()),
      ),
    )
  }),

  scenario("a snapshot is pinned right before it is condemned", async (stage) => {
    const { old } = await stage.twoNights()
    await stage.collect(before(isOn("put", POINTER_KEY), () => stage.pin(old)))
  }),

  scenario("a snapshot is pinned right before it is removed", async (stage) => {
    const { old } = await stage.twoNights()
    await stage.collect(before(THERE_IS_A_REMOVAL, () => isRefused(stage.pin(old))))
  }),

  scenario(
    "a collection frees a pinned snapshot while another, which saw no pin, is to remove it",
    async (stage) => {
      const { old } = await stage.twoNights()
      await stage.pin(old)
      await stage.condemn(old)
      await stage.collect(
        before(later(1, isOn("list", "pins/")), async () => {
          await stage.collect()
          await stage.unpin(old)
        }),
        before(THERE_IS_A_REMOVAL, () => isRefused(stage.publish(old))),
      )
    },
  ),

  scenario(
    "a snapshot is freed and live before the collection that condemned it looks again",
    async (stage) => {
      const { old } = await stage.twoNights()
      let condemned = false
      await stage.collect(
        {
          matches: isOn("put", POINTER_KEY),
          async around(send) {
            let reply: Awaited<ReturnType<typeof send>> | undefined
            await stage.pin(old, {
              matches: isOn("get", POINTER_KEY),
              async around(sendGet) {
                const pointer = await sendGet()
                reply = await send()
                return pointer
              },
            })
            condemned = true
            return reply!
          },
        },
        before(
          later(1, (operation, key) => condemned && operation === "get" && key === POINTER_KEY),
          async () => {
            await stage.collect()
            await stage.unpin(old)
            await stage.publish(old)
          },
        ),
      )
    },
  ),

  scenario("a publisher stands still between asking for the time and moving the pointer", async (stage) => {
    await stage.twoNights()
    await stage.night(before(isOn("put", POINTER_KEY), () => stage.pass(GRACE_MS + LEASE_MS / 2)))
    await stage.pass(1000)
    await stage.collect()
  }),

  scenario("a collection can't remove what another is about to", async (stage) => {
    const { old } = await stage.twoNights()
    await stage.collect(
      before(THERE_IS_A_REMOVAL, async () => {
        const { store } = stage.enter("collector")
        const refuse: ObjectStore["delete"] = async (keys) =>
          keys.map((key) => ({ key, reason: "access denied" }))
        await collect({ ...store, delete: refuse }, COLLECT_OPTIONS)
        await isRefused(stage.publish(old))
      }),
    )
  }),

  scenario("a collection dies when it has removed the first files", async (stage) => {
    await stage.twoNights()
    const dies: Hook = {
      matches: isOn("delete", "shards/"),
      async around(send) {
        await send()
        throw new Error("the process is gone")
      },
    }
    await isRefused(stage.collect(dies))
    const { store } = stage.enter("reader")
    for (const { key, run } of await listManifests(store))
      for (const file of snapshotFiles(await readManifest(store, key)))
        if ((await store.head(file.key)) === undefined)
          stage.invariants.fail("what can be found is complete", `${file.key} of ${run} is missing`)
    stage.invariants.check()
  }),

  scenario(
    "a run that was taken for dead comes back and replaces what it was not built on, by the shards that are about to go",
    async (stage) => {
      await stage.night()
      const { moment, hook } = stopBefore(isOn("put", "manifests/"), true)
      const { actor, store } = stage.enter("forced", hook)
      const building = isRefused(FORCED(stage, actor, store))
      await moment.reached
      stage.world.chance.happens = () => false
      await stage.night()
      await stage.pass(2 * GRACE_MS + LEASE_MS)
      await stage.collect(
        before(THERE_IS_A_REMOVAL, async () => {
          moment.goOn()
          await building
        }),
      )
    },
    { reuses: true },
  ),

  scenario("a run comes back before the collection that takes it for dead ends it", async (stage) => {
    await stage.night()
    const { moment, hook } = stopBefore(isOn("put", "manifests/"), true)
    const takesLong = before(isOn("put", "probes/"), () => stage.pass(LEASE_MS))
    const building = stage.night(hook, takesLong)
    await moment.reached
    await stage.pass(GRACE_MS + LEASE_MS + 1000)
    await stage.collect(
      before(isOn("put", "runs/"), () => {
        moment.goOn()
        return stage.pass(1000)
      }),
    )
    await building
  }),

  scenario(
    "a run that a collection has ended, and no more, comes back and can't renew its lease at once",
    async (stage) => {
      await stage.night()
      const { moment, hook } = stopBefore(isOn("put", "manifests/"), true)
      let isBack = false
      const slow = before(
        (operation, key) => isBack && operation === "put" && key.startsWith("runs/"),
        () => stage.pass(LEASE_MS / 4),
      )
      const { actor, store } = stage.enter("builder", hook, slow)
      const building = isRefused(FORCED(stage, actor, store))
      await moment.reached
      await stage.pass(GRACE_MS + LEASE_MS + 1000)
      const dies = before(isOn("put", POINTER_KEY), async () => {
        throw new Error("the process is gone")
      })
      await isRefused(stage.collect(dies))
      isBack = true
      moment.goOn()
      await building
    },
  ),
]
