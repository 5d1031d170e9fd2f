/**
 * Which shards are to blame when the process that reads them ends: pure bookkeeping.
 *
 * A process reads many shards at a time, and its end does not say which of them it is owed to. So all that
 * were being read become suspects, which are read one at a time in a process aside. Whoever ends that one is
 * to blame. A suspect that answers there is cleared, but for one that was suspected again and again: it may
 * answer some calls and not others.
 */

/** How often a shard may be suspected and cleared again. */
const SUSPICIONS_MAX = 3

/**
 * Processes that a shard may end aside, before it is refused without a trial. More than one, since the local
 * copy may be what was damaged, and since a process may be ended by somebody else.
 */
const ENDED_MAX = 2

interface Entry {
  isSuspect: boolean
  suspicions: number
  ended: number
  /** How the last process ended. */
  reason: string
}

export class Suspects {
  readonly #entries = new Map<string, Entry>()

  /** Whether a shard is to be read aside. */
  isSuspect(name: string): boolean {
    return this.#entries.get(name)?.isSuspect === true
  }

  /** How a shard ended the process, if it did so too often to be tried once more. */
  refusal(name: string): string | undefined {
    const entry = this.#entries.get(name)
    return entry !== undefined && entry.ended >= ENDED_MAX ? entry.reason : undefined
  }

  /** The process that all share has ended while these were being read. */
  suspect(names: Iterable<string>, reason: string): void {
    for (const name of new Set(names)) {
      const entry = this.#entry(name)
      entry.isSuspect = true
      entry.suspicions++
      entry.reason = reason
    }
  }

  /** The process aside has ended while these, of which there is one at most, were being read. */
  blame(names: Iterable<string>, reason: string): void {
    for (const name of names) {
      const entry = this.#entry(name)
      entry.ended++
      entry.reason = reason
    }
  }

  /** It has answered aside. */
  answered(name: string): void {
    const entry = this.#entries.get(name)
    if (entry !== undefined && entry.suspicions < SUSPICIONS_MAX && entry.ended === 0) entry.isSuspect = false
  }

  #entry(name: string): Entry {
    const known = this.#entries.get(name)
    if (known !== undefined) return known
    const made: Entry = { isSuspect: false, suspicions: 0, ended: 0, reason: "" }
    this.#entries.set(name, made)
    return made
  }
}
