/**
 * Repairing the pointer: if it is damaged or gone, or what it names is not intact, the newest intact snapshot
 * becomes live.
 */
import { corrupt, isVecsnapError } from "../../errors.js"
import { inspectPointer, type LivePointer, nothingPublished } from "../../manifest/current.js"
import { findManifest, listManifests } from "../../manifest/history.js"
import { POINTER_KEY, runKey } from "../../manifest/keys.js"
import { type Pointer, type Publication, publicationsOf } from "../../manifest/pointer.js"
import { publishManifest, replaceDamagedPointer } from "../../manifest/publish.js"
import { readRunRecord } from "../../manifest/run-record.js"
import { signedPublication } from "../../manifest/signed.js"
import {
  assertSigningKept,
  assertSigningKeptBy,
  isSigning,
  loadSigning,
  readVouchedManifest,
  type SigningChoice,
  type SigningOptions,
} from "../../manifest/signing.js"
import { judgeSignatures } from "../../snapshot/signatures/verdict.js"
import { type Root, type RootOptions, withRoot } from "../../storage/root.js"
import type { ObjectStore } from "../../storage/store.js"
import type { Verifier } from "./snapshot.js"
import { type DepthOptions, withVerifier } from "./verify.js"

export interface RepairOptions extends DepthOptions, RootOptions, SigningOptions {
  /**
   * Run whose snapshot is to become live, whatever is known of it; default: the newest intact one that was
   * published.
   */
  readonly snapshot?: string | undefined
  /** Told what will be done, right before it is. */
  readonly onPlan?: ((plan: RepairPlan) => void) | undefined
}

/** A snapshot that was considered and not chosen. */
export interface RejectedSnapshot {
  readonly run: string
  readonly reason: string
}

export interface RepairPlan {
  /** What is wrong with what is live, as a sentence. */
  readonly problem: string
  /** Run that is live; absent if the pointer is damaged or missing. */
  readonly from: string | undefined
  readonly to: string
  /** Whether it is known that the chosen snapshot was live before. */
  readonly knownPublished: boolean
  readonly rejected: readonly RejectedSnapshot[]
}

export interface RepairReport {
  readonly url: string
  /** Run that was live; absent if the pointer was damaged or missing. */
  readonly before: string | undefined
  /** Run that is live now. */
  readonly now: string
  /** What was done; absent if there was nothing to repair. */
  readonly plan: RepairPlan | undefined
}

/**
 * Makes the newest intact snapshot live if the live one is not intact or can't be told; else changes nothing.
 * How thoroughly snapshots are checked, `deep` says.
 *
 * Candidates are those that were live before, newest first; where the pointer can't tell, and after these,
 * all manifests whose run record does not say that they were never published. A snapshot that a rollback took
 * down is not chosen.
 *
 * Throws `NotFound` if there is no snapshot at all, `Corrupt` if none that may be chosen is intact,
 * `Conflict` if the pointer changed meanwhile; otherwise as `verifyRoot`.
 */
export async function repairPointer(root: Root, options: RepairOptions = {}): Promise<RepairReport> {
  return withRoot(root, options, async (store) => {
    const { snapshot, onPlan, signal } = options
    const { url } = store
    const signing = await loadSigning(options)
    const found = await inspectPointer(store, { signal })
    const live = found !== undefined && "run" in found ? found : undefined
    return withVerifier(store, options, async (verifier) => {
      const problem = live
        ? (distrustOf(live, signing) ?? (await problemOf(verifier, live.manifest)))
        : found && "problem" in found
          ? found.problem
          : `${POINTER_KEY} is missing`
      if (live !== undefined && problem === undefined)
        return { url, before: live.run, now: live.run, plan: undefined }

      const rejected: RejectedSnapshot[] = []
      for await (const candidate of candidates(store, live, { snapshot, signing, rejected, signal })) {
        const { run, key, knownPublished } = candidate
        const { snapshot: checked, faults } = await verifier.check(key)
        if (checked === undefined || faults.length > 0) {
          rejected.push({ run, reason: faults[0]!.message })
          continue
        }
        const unvouched = await whyNotVouched(store, key, signing, signal)
        if (unvouched !== undefined) {
          rejected.push({ run, reason: unvouched })
          continue
        }
        if (live !== undefined) assertSigningKept(store, live, signing)
        else await assertSigningKeptBy(store, key, signing, { signal })
        onPlan?.({ problem: problem!, from: live?.run, to: run, knownPublished, rejected })
        if (found !== undefined && "problem" in found)
          await replaceDamagedPointer(store, found.etag, key, checked, { signing, signal })
        else await publishManifest(store, key, checked, { action: "repair", expected: live, signing, signal })
        const plan = { problem: problem!, from: live?.run, to: run, knownPublished, rejected }
        return { url, before: live?.run, now: run, plan }
      }
      if (rejected.length === 0 && found === undefined) throw nothingPublished(store)
      throw nothingIntact(store, problem!, rejected)
    })
  })
}

/** Why a pointer is not believed by whoever is about to sign one; `undefined` if it is, or nobody asks. */
function distrustOf(live: LivePointer, signing: SigningChoice): string | undefined {
  if (!isSigning(signing)) return undefined
  const verdict = judgeSignatures(signedPublication(live), signing.trusted)
  return verdict.valid ? undefined : `${POINTER_KEY} ${verdict.reason}`
}

/** Why a snapshot cannot be signed again; `undefined` if it can, or is not to be. */
async function whyNotVouched(
  store: ObjectStore,
  key: string,
  signing: SigningChoice,
  signal: AbortSignal | undefined,
): Promise<string | undefined> {
  if (!isSigning(signing)) return undefined
  try {
    await readVouchedManifest(store, key, signing, { signal })
    return undefined
  } catch (error) {
    if (!isVecsnapError(error, "Corrupt")) throw error
    return error.message
  }
}

async function problemOf(verifier: Verifier, key: string): Promise<string | undefined> {
  const { faults } = await verifier.check(key)
  return faults[0]?.message
}

interface Candidate {
  readonly run: string
  readonly key: string
  readonly knownPublished: boolean
}

interface CandidateOptions {
  readonly snapshot: string | undefined
  readonly signing: SigningChoice
  readonly rejected: RejectedSnapshot[]
  readonly signal: AbortSignal | undefined
}

/** Snapshots that may become live, best first; others are noted in `rejected`. */
async function* candidates(
  store: ObjectStore,
  live: LivePointer | undefined,
  { snapshot, signing, rejected, signal }: CandidateOptions,
): AsyncGenerator<Candidate> {
  if (snapshot !== undefined) {
    const { run, key } = await findManifest(store, snapshot, { signal })
    const knownPublished = live !== undefined && publicationsOf(live).some((known) => known.run === run)
    yield { run, key, knownPublished }
    return
  }
  // Of a pointer that is not believed nothing is: whoever wrote it must not choose what is signed next.
  const believed = live !== undefined && distrustOf(live, signing) === undefined ? live : undefined
  const seen = new Set(believed === undefined ? [] : [believed.run])
  const down = believed === undefined ? new Set<string>() : takenDown(believed)
  for (const { run, manifest: key } of believed?.history ?? []) {
    if (seen.has(run)) continue
    seen.add(run)
    if (down.has(run)) rejected.push({ run, reason: "a rollback replaced it" })
    else yield { run, key, knownPublished: true }
  }
  for (const { run, key } of await listManifests(store, { signal })) {
    if (seen.has(run)) continue
    seen.add(run)
    const record = (await readRunRecord(store, runKey(run), { signal }))?.record
    if (record?.published === false)
      rejected.push({ run, reason: "its run record says that it was not published" })
    else yield { run, key, knownPublished: record?.published === true }
  }
}

/** Runs that somebody replaced by a rollback the last time that they were live. Pure. */
export function takenDown(pointer: Pointer): ReadonlySet<string> {
  const down = new Set<string>()
  const seen = new Set<string>()
  let after: Publication | undefined
  for (const publication of publicationsOf(pointer)) {
    if (!seen.has(publication.run) && after?.action === "rollback") down.add(publication.run)
    seen.add(publication.run)
    after = publication
  }
  return down
}

function nothingIntact({ url }: ObjectStore, problem: string, rejected: readonly RejectedSnapshot[]): Error {
  const tried = rejected.map(({ run, reason }) => `${run}: ${reason}`).join("; ")
  const others =
    rejected.length === 0 ? "there is no other snapshot" : `of the others none can be used: ${tried}`
  const hint = "restore what is missing, build again, or name a snapshot with --snapshot"
  return corrupt(`${problem}, and ${others}; ${hint}`, { url, rejected })
}
