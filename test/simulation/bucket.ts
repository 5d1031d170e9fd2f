/**
 * The simulated store: objects in memory behind a network that delays, loses, repeats and refuses, as the seed decides.
 */
import { createHash } from "node:crypto"
import { aborted, conflict, corrupt, messageOf, throwIfAborted, unavailable } from "../../src/errors.js"
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

/** One write, at the moment in which it takes effect. */
export interface Write {
  readonly object: SimulatedObject
  readonly before: SimulatedObject | undefined
  readonly actor: Actor
  /** What the actor was publishing when it sent the request. */
  readonly publishCall: number
}

/** Is told of everything that changes, as it does. */
export interface Observer {
  written(key: string, write: Write): void
  deleted(key: string, object: SimulatedObject): void
}

export interface BucketOptions {
  /** Whether the store heeds `ifMatch` and `ifAbsent`. */
  readonly preconditions: boolean
  readonly longestStallMs: number
}

const PAGE = 5
/** How much more often one is stopped at a nasty moment, where `nasty` is asked for. */
const NASTY_FACTOR = 8
/** A request that its caller gave up arrives so much later, at most. */
export const LATEST_ARRIVAL_MS = 30_000

export class Bucket {
  readonly objects = new Map<string, SimulatedObject>()
  faults: FaultRates = NO_FAULTS
  stalls = 0
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
          keys.filter(
            () => this.faults.partialDelete > 0 && this.#world.chance.happens(this.faults.partialDelete),
          ),
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
    const request: Request<T> = { actor, what, key, ...effect, signal }
    const { chance } = this.#world
    return new Promise((resolve, reject) => {
      throwIfAborted(signal)
      if (actor.crashed) return
      if (chance.happens(this.faults.stall * this.#nastiness(request))) {
        const ms = chance.magnitude(1000, this.#options.longestStallMs)
        this.#log(request, `stalls for ${Math.round(ms / 1000)} s before`)
        this.stalls++
        actor.stalls++
        actor.stalledUntilMs = this.#world.nowMs + ms
      }
      this.#world.after(chance.magnitude(1, actor.latencyMs), actor, () => {
        try {
          const reply = this.#arrive(request)
          if (reply !== NO_ONE_LISTENS) resolve(reply)
        } catch (error) {
          reject(error)
        }
      })
    })
  }

  /** What becomes of a request: its reply, thrown if it is an error. */
  #arrive<T>(request: Request<T>): T | typeof NO_ONE_LISTENS {
    const { actor, what, key, signal, writes } = request
    const { faults } = this
    const { chance } = this.#world
    const attempt = (): T => this.#attempt(request)
    const noAnswer = (): never => {
      throw unavailable(`the store does not answer (${what} ${key})`)
    }
    if (chance.happens(faults.crash * this.#nastiness(request))) {
      const done = chance.happens(0.5)
      this.#log(request, `and crashes ${done ? "after" : "before"} it`)
      if (done) ignoreErrors(attempt)
      else if (writes && chance.happens(0.2)) this.#arriveLater(request)
      this.#world.crash(actor)
      return NO_ONE_LISTENS
    }
    if (signal?.aborted) {
      // Whether it arrived is not known to who gave up.
      if (chance.happens(0.5)) ignoreErrors(attempt)
      throw aborted("the request was aborted", {}, signal.reason)
    }
    if (chance.happens(faults.unavailable)) return noAnswer()
    if (request.conditional && chance.happens(faults.refused)) {
      this.#log(request, "refused")
      throw conflict(`${key}: a conditional request is going on`, { key })
    }
    if (!writes) return attempt()
    if (chance.happens(faults.lostReply)) {
      ignoreErrors(attempt)
      this.#log(request, "reply lost")
      return noAnswer()
    }
    if (chance.happens(faults.late)) {
      this.#arriveLater(request)
      if (chance.happens(0.5)) return noAnswer()
    } else if (chance.happens(faults.doubled)) {
      ignoreErrors(attempt)
    }
    return attempt()
  }

  #attempt<T>(request: Request<T>): T {
    try {
      const result = request.now()
      this.#log(request, result === undefined ? "missing" : "ok")
      return result
    } catch (error) {
      this.#log(request, messageOf(error))
      throw error
    }
  }

  #arriveLater(request: Request<unknown>): void {
    this.#world.after(this.#world.chance.magnitude(10, LATEST_ARRIVAL_MS), undefined, () => {
      this.#log(request, "arrives late")
      ignoreErrors(() => this.#attempt(request))
    })
  }

  #nastiness({ what, key }: Request<unknown>): number {
    return this.faults.nasty && isNastyMoment(what, key) ? NASTY_FACTOR : 1
  }

  #log({ actor, what, key }: Request<unknown>, outcome: string): void {
    this.#world.log(actor, () => `${what} ${key} ${outcome}`)
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
    this.#observer?.written(key, { object, before: existing, actor, publishCall })
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

interface Request<T> extends Effect<T> {
  readonly actor: Actor
  readonly what: string
  readonly key: string
  readonly signal: AbortSignal | undefined
}

/** In place of a reply to a process that is gone. */
const NO_ONE_LISTENS = Symbol("no one listens")

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
