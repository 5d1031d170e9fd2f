/**
 * Whether a reader that has trusted keys believes a pointer: it is signed by one of them, and its publication
 * is not older than one that was seen before.
 */
import { isVecsnapError, messageOf, type VecsnapError } from "../../errors.js"
import type { Logger } from "../../logger.js"
import { assertPointerSigned, type RootPointer } from "../../manifest/formats.js"
import { POINTER_KEY } from "../../manifest/keys.js"
import type { TrustedKey } from "../../snapshot/signatures/keys.js"
import { distrusted } from "../../snapshot/signatures/verdict.js"
import type { SeenNumbers } from "./seen-numbers.js"

export interface PointerTrust {
  readonly keys: readonly TrustedKey[]
  /**
   * To be called before the pointer is read: what others publish and see while that goes on must not make it
   * look old. What it returns throws `Corrupt` with `details.distrust` if the pointer is not to be believed.
   */
  begin(): Promise<(pointer: RootPointer) => Promise<void>>
}

export interface PointerTrustOptions {
  readonly keys: readonly TrustedKey[]
  readonly seen: SeenNumbers
  /** Whether numbers are remembered by this reader alone where the cache directory cannot be used. */
  readonly seenMayFail: boolean
  readonly logger: Logger
}

export function createPointerTrust({ keys, seen, seenMayFail, logger }: PointerTrustOptions): PointerTrust {
  let highest = 0
  let warned = false

  async function orWarn(work: () => Promise<void>): Promise<void> {
    try {
      await work()
    } catch (error) {
      if (!seenMayFail || !isVecsnapError(error)) throw error
      if (!warned) logger.warn({ error: messageOf(error) }, "numbers of publications are not kept on disk")
      warned = true
    }
  }

  return {
    keys,
    async begin() {
      await orWarn(async () => {
        highest = Math.max(highest, await seen.highest())
      })
      const least = highest
      return async (pointer) => {
        assertPointerSigned(pointer, keys)
        const { number = 0 } = pointer
        if (number < least) throw wentBack(number, least, seen.directory)
        if (number <= highest) return
        await orWarn(() => seen.note(number))
        highest = Math.max(highest, number)
      }
    },
  }
}

const wentBack = (number: number, seen: number, directory: string): VecsnapError =>
  distrusted(
    POINTER_KEY,
    "number-went-back",
    `is of publication ${number}, but publication ${seen} was seen here before: somebody put an old pointer back. Publish again with the signing key; or, if it is meant to be so, remove ${directory} and start again`,
  )
