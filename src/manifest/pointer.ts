/**
 * The pointer, `_CURRENT`: the one object that is ever overwritten, always by compare-and-set. It names the
 * live manifest, remembers what was live before, and names the runs that a collection is about to remove.
 *
 * All that decides which snapshot may be live is in this one object, so that one compare-and-set settles
 * every race: between publishers, and between a publisher and a collection.
 * docs/decisions/0006-one-object-decides.md tells why.
 */
import { z } from "zod"
import { count, decodeDocument, encodeDocument, runId, sha256, time } from "./document.js"
import { newId, parseKey } from "./keys.js"
import { type PublicationSignatures, SIGNATURES_MAX, signature } from "./signed.js"

/** How a snapshot became live: by a build or `publish`, by `rollback`, or by `verify --repair-pointer`. */
const PUBLICATION_ACTIONS = ["publish", "rollback", "repair"] as const
export type PublicationAction = (typeof PUBLICATION_ACTIONS)[number]

/** One move of the pointer to a snapshot. */
export interface Publication {
  /** Counts the publications of a root, from 1. A root of vecsnap 0.1 starts at 0. */
  readonly number: number
  readonly run: string
  /** Key of the manifest. */
  readonly manifest: string
  /**
   * By the store's clock: asked right before the pointer moved, and exact once another write of the pointer
   * came.
   */
  readonly publishedAt: Date
  readonly action: PublicationAction
  /** Ids of the keys that signed it, as the pointer says; of an earlier one nothing vouches for that. */
  readonly signedBy?: readonly string[] | undefined
}

/** What is live, which makes a publication of its own properties, and what came before. */
export interface Pointer extends Publication {
  /** Earlier publications, newest first, at most {@link HISTORY_LIMIT}. */
  readonly history: readonly Publication[]
  /**
   * When the live snapshot became live; absent in the write that made it so, whose own time it is. See
   * {@link liveSinceOf}.
   */
  readonly liveSince?: Date | undefined
  /** Runs that a collection removes at this moment. They can't be published any more. */
  readonly condemned: readonly string[]
  /** Signatures of the live publication; absent if it is not signed. */
  readonly signed?: PublicationSignatures | undefined
  /**
   * Random id of this write: tells ours from another's, and no two pointers have the same bytes, hence ETag.
   */
  readonly write: string
}

export type NextPointer = Omit<Pointer, "write">

/** A pointer as it is stored. */
export type StoredPointer = Pointer & {
  /** By the store's clock: when it was written. */
  readonly lastModified: Date
}

export const HISTORY_LIMIT = 100

/** Runs condemned at a time, at most; keeps the pointer small. */
export const CONDEMNED_LIMIT = 500

const publication = z.object({
  number: count.default(0),
  run: runId,
  manifest: z.string().refine((key) => parseKey(key)?.kind === "manifest", "a manifest's key"),
  publishedAt: time,
  action: z.enum(PUBLICATION_ACTIONS).default("publish"),
  signedBy: z.array(signature.shape.key).max(SIGNATURES_MAX).optional(),
})
// The first pointers of this version had nothing but the manifest, the run and the time.
const schema = publication.omit({ signedBy: true }).extend({
  signed: z
    .object({ manifestSha256: sha256, signatures: z.array(signature).min(1).max(SIGNATURES_MAX) })
    .optional(),
  history: z.array(publication).default([]),
  liveSince: time.optional(),
  condemned: z.array(runId).default([]),
  write: z.string().default(""),
})
/** What tells a pointer of ours from others. */
export const POINTER_FORMAT = "vecsnap"
const KIND = { format: POINTER_FORMAT, version: 1, schema }

/** Writes a pointer under a new write id, unless one is given. */
export function encodePointer(pointer: NextPointer, write: string = newId()): Buffer {
  const { history, liveSince, condemned, signed } = pointer
  return encodeDocument(KIND, {
    ...wireOf(pointer),
    ...(signed && { signed }),
    history: history.map((earlier) => ({
      ...wireOf(earlier),
      ...(earlier.signedBy && { signedBy: earlier.signedBy }),
    })),
    ...(liveSince && { liveSince: liveSince.toISOString() }),
    condemned,
    write,
  })
}

const wireOf = ({ manifest, run, publishedAt, number, action }: Publication): object => ({
  manifest,
  run,
  publishedAt: publishedAt.toISOString(),
  number,
  action,
})

/** Throws `Corrupt` or `Unsupported`, naming `key`. */
export const decodePointer = (bytes: Uint8Array, key: string): Pointer => decodeDocument(KIND, bytes, key)

/** The publication that is live. */
export const liveOf = ({ number, run, manifest, publishedAt, action, signed }: NextPointer): Publication => ({
  number,
  run,
  manifest,
  publishedAt,
  action,
  ...(signed && { signedBy: signed.signatures.map(({ key }) => key) }),
})

/** All publications that the pointer knows, newest first: the live one, then its history. */
export const publicationsOf = (pointer: Pointer): readonly Publication[] => [
  liveOf(pointer),
  ...pointer.history,
]

/**
 * The pointer after a publication.
 *
 * @param leastNumber its number if counting on gives a lower one
 */
export function withPublication(
  live: Pointer | undefined,
  next: Omit<Publication, "number" | "signedBy">,
  leastNumber = 1,
): NextPointer & { readonly action: PublicationAction } {
  return {
    ...next,
    number: Math.max((live?.number ?? 0) + 1, leastNumber),
    history: live === undefined ? [] : publicationsOf(live).slice(0, HISTORY_LIMIT),
    condemned: live?.condemned ?? [],
  }
}

/** The pointer after runs were condemned. */
export const withCondemned = (live: Pointer, runs: readonly string[]): NextPointer => ({
  ...live,
  condemned: [...new Set([...live.condemned, ...runs])],
})

/** The pointer after runs that were condemned are removed, or spared. */
export const withoutCondemned = (live: Pointer, runs: ReadonlySet<string>): NextPointer => ({
  ...live,
  condemned: live.condemned.filter((run) => !runs.has(run)),
})

/**
 * When the live snapshot became live, and the one before it stopped to be, by the store's clock.
 *
 * `publishedAt` is earlier if the publisher stood still between asking for the time and moving the pointer.
 * What counts is when the pointer moved: who opened the snapshot before until then may rely on the grace
 * period from then on.
 */
export const liveSinceOf = ({ liveSince, lastModified }: StoredPointer): Date => liveSince ?? lastModified

/** `next`, to replace `live`, without losing when what is live in `live` became so. */
export function withTimesOf(live: StoredPointer | undefined, next: NextPointer): NextPointer {
  if (live === undefined) return next
  const liveSince = liveSinceOf(live)
  if (next.number === live.number) return { ...next, liveSince }
  const [before, ...older] = next.history
  return { ...next, history: before ? [{ ...before, publishedAt: liveSince }, ...older] : [] }
}
