/**
 * The simulated store: objects in memory behind a network that delays, loses, repeats and refuses, as the seed decides.
 */
import { createHash } from "node:crypto"
import { aborted, conflict, corrupt, throwIfAborted, unavailable } from "../../src/errors.js"
import { POINTER_KEY, RUN_PREFIX } from "../../src/manifest/keys.js"
import { assertFits, assertKey, compareKeys } from "../../src/storage/rules.js"
import type {
  CallOptions,
  ListedObject,
  ObjectInfo,
  ObjectStore,
  PutBody,
  PutOptions,
  StoredObject,
} from "../../src/storage/store.js"
import type { Actor, World } from "./world.js"

/** How often each thing goes wrong, per request, from 0 to 1. */
export interface FaultRates {
  /** 503: nothing was done. An upload that ends in the middle looks the same, as nothing of it is visible. */
  unavailable: number
  /** It was done, but the reply is lost. */
  lostReply: number
  /** It was done twice in a row; the reply is that of the second time. */
  doubled: number
  /** It arrives (again) up to half a minute later; the caller has been told that the store does not answer, or its reply. */
  late: number
  /** 412 or 409 although the precondition holds, as stores answer under contention. */
  refused: number
  /** Some of the keys are not deleted, and it is told which. */
  partialDelete: number
  /** The process is gone, before or after the request was done. */
  crash: number
  /** The process stops, for seconds up to far more than lease and grace together, and goes on. */
  stall: number
  /** More crashes and stalls right before the pointer or the record of a run is written, or something deleted. */
  nasty: boolean
}

export const NO_FAULTS: FaultRates = {
  unavailable: 0,
  lostReply: 0,
  doubled: 0,
  late: 0,
  refused: 0,
  partialDelete: 0,
  crash: 0,
  stall: 0,
  nasty: false,
}

export interface SimulatedObject extends StoredObject {
  readonly sha256: string
}

/** Is told of everything that changes, as it does. */
export interface Observer {
  written(key: string, object: SimulatedObject, actor: Actor, publishCall: number): void
  deleted(key: string, object: SimulatedObject): void
}

export interface BucketOptions {
  /** Whether the store heeds `ifMatch` and `ifAbsent`. */
  readonly preconditions: boolean
  readonly longestStallMs: number
}

const PAGE = 5
const LATEST_ARRIVAL_MS = 30_000

export class Bucket {
  readonly objects = new Map<string, SimulatedObject>()
  faults: FaultRates = NO_FAULTS
  readonly #world: World
  readonly #options: BucketOptions
  #observer: Observer | undefined

  constructor(world: World, options: BucketOptions) {
    this.#world = world
    this.#options = options
  }

  observe(observer: Observer): void {
    this.#observer = observer
  }

  /** The store as an actor sees it. */
  openFor(actor: Actor): ObjectStore {
    const request = <T>(what: string, key: string, effect: Effect<T>, options: CallOptions = {}) =>
      this.#request(actor, what, key, effect, options)
    const get: ObjectStore["get"] = (key, options = {}) =>
      request(
        "get",
        key,
        reading(() => {
          const object = this.objects.get(key)
          if (object === undefined) return undefined
          assertFits(options, object.size, key, key)
          const { range } = options
          if (range !== undefined && range.end > object.size) throw corrupt(`${key} is too short`, { key })
          return { ...infoOf(object), body: object.body.slice(range?.start, range?.end) }
        }),
        options,
      )
    const list = (prefix: string, options?: CallOptions) => this.#list(actor, prefix, options)
    return {
      url: "sim://bucket",
      get,
      getIfChanged: async (key, etag, options) => {
        const object = await get(key, options)
        return object?.etag === etag ? "unchanged" : object
      },
      getFile: () => Promise.reject(new Error("no actor downloads into files")),
      head: (key, options) =>
        request(
          "head",
          key,
          reading(() => infoOf(this.objects.get(key))),
          options,
        ),
      put: (key, body, options = {}) => {
        assertKey(key)
        const publishCall = actor.publishCall
        const bytes = bytesOf(body)
        const effect = {
          writes: true,
          conditional: options.ifAbsent === true || options.ifMatch !== undefined,
          now: () => this.#put(key, bytes, options, actor, publishCall),
        }
        return request("put", key, effect, options)
      },
      list,
      delete: (keys, options) => {
        for (const key of keys) assertKey(key)
        const kept = new Set(
          keys.filter(() => this.faults.partialDelete > 0 && this.#world.chance.happens(this.faults.partialDelete)),
        )
        const effect = {
          writes: true,
          conditional: false,
          now: () => {
            for (const key of keys) if (!kept.has(key)) this.#delete(key)
            return [...kept].map((key) => ({ key, reason: "the store is busy" }))
          },
        }
        return request("delete", keys.join(" "), effect, options)
      },
      close: () => {},
    }
  }

  async *#list(actor: Actor, prefix: string, options: CallOptions = {}): AsyncGenerator<ListedObject> {
    let last = ""
    for (;;) {
      const page = await this.#request(
        actor,
        "list",
        prefix,
        reading(() =>
          [...this.objects]
            .filter(([key]) => key.startsWith(prefix) && compareKeys(key, last) > 0)
            .sort(([a], [b]) => compareKeys(a, b))
            .slice(0, PAGE)
            .map(([key, object]) => ({ key, ...infoOf(object)! })),
        ),
        options,
      )
      yield* page
      if (page.length < PAGE) return
      last = page.at(-1)!.key
    }
  }

  #request<T>(
    actor: Actor,
    what: string,
    key: string,
    effect: Effect<T>,
    { signal }: CallOptions,
  ): Promise<T> {
    const { chance } = this.#world
    return new Promise((resolve, reject) => {
      const log = (outcome: string): void => this.#world.log(actor, () => `${what} ${key} ${outcome}`)
      const attempt = (): T => {
        try {
          const result = effect.now()
          log(result === undefined ? "missing" : "ok")
          return result
        } catch (error) {
          log((error as Error).message)
          throw error
        }
      }
      const settle = (act: () => T): void => {
        try {
          resolve(act())
        } catch (error) {
          reject(error)
        }
      }
      const noAnswer = (): never => {
        throw unavailable(`the store does not answer (${what} ${key})`)
      }
      const arriveLater = (): void => {
        this.#world.after(chance.magnitude(10, LATEST_ARRIVAL_MS), undefined, () => {
          this.#world.log(actor, () => `${what} ${key} arrives late`)
          try {
            effect.now()
          } catch {
            // Nobody hears of it.
          }
        })
      }

      const arrive = (): void => {
        const { faults } = this
        const factor = faults.nasty && isNastyMoment(what, key) ? 8 : 1
        if (chance.happens(faults.crash * factor)) {
          const done = chance.happens(0.5)
          log(`and crashes ${done ? "after" : "before"} it`)
          if (done) ignoreErrors(effect.now)
          else if (effect.writes && chance.happens(0.2)) arriveLater()
          return this.#world.crash(actor)
        }
        if (signal?.aborted) {
          // Whether it arrived is not known to who gave up.
          if (chance.happens(0.5)) ignoreErrors(attempt)
          return reject(aborted("the request was aborted", {}, signal.reason))
        }
        if (chance.happens(faults.unavailable)) return settle(noAnswer)
        if (effect.conditional && chance.happens(faults.refused)) {
          return settle(() => {
            log("refused")
            throw conflict(`${key}: a conditional request is going on`, { key })
          })
        }
        if (!effect.writes) return settle(attempt)
        if (chance.happens(faults.lostReply)) {
          ignoreErrors(attempt)
          log("reply lost")
          return settle(noAnswer)
        }
        if (chance.happens(faults.late)) {
          arriveLater()
          return settle(chance.happens(0.5) ? noAnswer : attempt)
        }
        if (chance.happens(faults.doubled)) ignoreErrors(attempt)
        settle(attempt)
      }

      // Where one is stopped before a request is sent, one is stopped after the request before it.
      const nastyFactor = this.faults.nasty && isNastyMoment(what, key) ? 8 : 1
      if (chance.happens(this.faults.stall * nastyFactor)) {
        const ms = chance.magnitude(1000, this.#options.longestStallMs)
        log(`stalls for ${Math.round(ms / 1000)} s before`)
        actor.stalledUntilMs = this.#world.nowMs + ms
      }
      try {
        throwIfAborted(signal)
      } catch (error) {
        return reject(error)
      }
      if (!actor.crashed) this.#world.after(chance.magnitude(1, actor.latencyMs), actor, arrive)
    })
  }

  #put(
    key: string,
    body: Uint8Array,
    { ifAbsent, ifMatch }: PutOptions,
    actor: Actor,
    publishCall: number,
  ): { readonly etag: string } {
    const existing = this.objects.get(key)
    if (this.#options.preconditions) {
      if (ifAbsent && existing !== undefined) throw conflict(`${key} exists already`, { key })
      if (ifMatch !== undefined && existing?.etag !== ifMatch)
        throw conflict(`${key} has another version than expected`, { key })
    }
    const sha256 = createHash("sha256").update(body).digest("hex")
    const etag = `"${sha256.slice(0, 32)}"`
    // S3 cuts the time to the second.
    const lastModified = new Date(Math.floor(this.#world.nowMs / 1000) * 1000)
    const object = { body, size: body.length, etag, sha256, lastModified }
    this.objects.set(key, object)
    this.#observer?.written(key, object, actor, publishCall)
    return { etag }
  }

  #delete(key: string): void {
    const object = this.objects.get(key)
    if (object === undefined) return
    this.objects.delete(key)
    this.#observer?.deleted(key, object)
  }
}

interface Effect<T> {
  readonly writes: boolean
  readonly conditional: boolean
  readonly now: () => T
}

const reading = <T>(now: () => T): Effect<T> => ({ writes: false, conditional: false, now })

function ignoreErrors(act: () => unknown): void {
  try {
    act()
  } catch {
    // Its reply is lost.
  }
}

/** What is decided by what comes next: here a stop does the most harm. */
const isNastyMoment = (what: string, key: string): boolean =>
  what === "delete" || (what === "put" && (key === POINTER_KEY || key.startsWith(RUN_PREFIX)))

const infoOf = <T extends ObjectInfo | undefined>(object: T): T extends undefined ? undefined : ObjectInfo =>
  (object && {
    size: object.size,
    etag: object.etag,
    lastModified: object.lastModified,
  }) as never

function bytesOf(body: PutBody): Uint8Array {
  if (body instanceof Uint8Array) return body.slice()
  throw new Error("no actor uploads files")
}
