/**
 * The pointer of a root, as a reader knows it: what it was when it was last read, and since when it could not
 * be.
 */
import { messageOf } from "../../errors.js"
import { nothingPublished } from "../../manifest/current.js"
import { type RootPointer, readRootPointer, readRootPointerIfChanged } from "../../manifest/formats.js"
import type { ObjectStore } from "../../storage/store.js"
import { createCallScope } from "../calls/call-scope.js"
import type { HealthFacts } from "../report/health.js"
import type { PointerTrust } from "./pointer-trust.js"

/** A pointer read so recently is not read again for `health`. */
const FRESH_MS = 5000
/** The longest that `health` waits for the pointer. */
const PROBE_MS = 2000

export class KnownPointer {
  readonly #store: ObjectStore
  readonly #trust: PointerTrust | undefined
  #pointer: RootPointer | undefined
  #readAt: Date | undefined
  #failure: HealthFacts["pointerFailure"]
  #probing: Promise<void> | undefined

  /** @param trust whether a pointer is believed; by default any is */
  constructor(store: ObjectStore, trust?: PointerTrust) {
    this.#store = store
    this.#trust = trust
  }

  /** As it was when it was last read. */
  get last(): RootPointer | undefined {
    return this.#pointer
  }

  /** When it was last read with success. */
  get readAt(): Date | undefined {
    return this.#readAt
  }

  /** Since when it could not be read, and why; `undefined` if it was read the last time. */
  get failure(): HealthFacts["pointerFailure"] {
    return this.#failure
  }

  /**
   * The pointer as it is now; costs no body if it is the one we know. Throws `NotFound` if nothing is
   * published, `Corrupt` if it is not believed.
   */
  async read(signal: AbortSignal | undefined): Promise<RootPointer> {
    const known = this.#pointer
    try {
      const assertBelieved = await this.#trust?.begin()
      const read =
        known === undefined
          ? await readRootPointer(this.#store, { signal })
          : await readRootPointerIfChanged(this.#store, known.etag, { signal })
      if (read === undefined) throw nothingPublished(this.#store)
      const pointer = read === "unchanged" ? known! : read
      // Also of one that has not changed: another process may have seen a later one.
      await assertBelieved?.(pointer)
      return this.note(pointer)
    } catch (error) {
      this.#failure = { sinceMs: this.#failure?.sinceMs ?? Date.now(), reason: messageOf(error) }
      throw error
    }
  }

  /** Takes note of a pointer that was read elsewhere. */
  note(pointer: RootPointer): RootPointer {
    this.#pointer = pointer
    this.#readAt = new Date()
    this.#failure = undefined
    return pointer
  }

  /**
   * Reads the pointer for `health` unless that was just done, in bounded time. What goes wrong is noted as
   * {@link failure}, not thrown.
   */
  async probe(closing: AbortSignal): Promise<void> {
    if (Date.now() - (this.#readAt?.getTime() ?? 0) <= FRESH_MS) return
    this.#probing ??= this.#readInTime(closing).finally(() => {
      this.#probing = undefined
    })
    await this.#probing
  }

  /** Resolves when no probe is under way. */
  async settled(): Promise<void> {
    await this.#probing
  }

  async #readInTime(closing: AbortSignal): Promise<void> {
    const scope = createCallScope({ what: "reading of the pointer", timeoutMs: PROBE_MS, closing })
    try {
      await this.read(scope.signal)
    } catch {
      // Noted by `read`.
    } finally {
      scope.end()
    }
  }
}
