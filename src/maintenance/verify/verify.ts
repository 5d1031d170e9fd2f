/**
 * Whether what lies at a root is what its manifests say: the pointer, manifests, and every object that they
 * name.
 */

import { inspectPointer, nothingPublished } from "../../manifest/current.js"
import { vecsnapFormat } from "../../manifest/format.js"
import { assertPointerSigned, type RootPointer, readOtherPointer } from "../../manifest/formats.js"
import { findManifest, listManifests } from "../../manifest/history.js"
import { POINTER_KEY, parseKey } from "../../manifest/keys.js"
import { liveOf, type Pointer } from "../../manifest/pointer.js"
import { signedManifest, signedPublication } from "../../manifest/signed.js"
import { assertTrust, type TrustOptions } from "../../shards/pools.js"
import type { SnapshotFormat } from "../../snapshot/format.js"
import { loadTrustedKeys, type TrustedKey, type TrustedKeyOption } from "../../snapshot/signatures/keys.js"
import { assertSigned, distrusted, judgeSignatures } from "../../snapshot/signatures/verdict.js"
import { sha256OfBytes } from "../../storage/checksum.js"
import { type Root, type RootOptions, withRoot } from "../../storage/root.js"
import type { ObjectStore } from "../../storage/store.js"
import { withTempDir } from "../../storage/temp-dir.js"
import {
  type Checked,
  createVerifier,
  type Found,
  type SnapshotCheck,
  type Verifier,
  type VerifierOptions,
} from "./snapshot.js"

export interface DepthOptions extends TrustOptions {
  /**
   * Also reads all contents: checksums, rows, ids, sample queries. Default false: sizes, routing, index of
   * the locator.
   */
  readonly deep?: boolean | undefined
  /** Where a temporary directory is made for `deep`; default: the system's. */
  readonly tempDir?: string | undefined
  readonly signal?: AbortSignal | undefined
}

export interface VerifyOptions extends DepthOptions, RootOptions {
  /**
   * Public keys, as readers take them: what none of them has signed is a fault, and is not read any further.
   * Default: signatures are not looked at.
   */
  readonly trustedKeys?: readonly TrustedKeyOption[] | undefined
  /** "live" (default), "all" snapshots at the root, or that of one run, by its id. */
  readonly snapshot?: "live" | "all" | (string & {}) | undefined
}

/** One thing that is missing or damaged. */
export interface Fault extends Found {
  /** What to do about it, as a sentence's second half. */
  readonly advice: string
  /** Snapshots that need the object; empty for the pointer. */
  readonly runs: readonly string[]
}

export interface VerifiedSnapshot {
  readonly run: string
  /** Key of its manifest. */
  readonly manifest: string
  readonly live: boolean
  readonly intact: boolean
  /** Absent if the manifest can't be read. */
  readonly rows: number | undefined
}

export interface VerifyReport {
  readonly url: string
  /** Name of the format of the root: "vecsnap", or another. */
  readonly format: string
  readonly deep: boolean
  /** Whether nothing is missing or damaged. */
  readonly intact: boolean
  /** Run that is live; absent if none is, or if the pointer can't be read. */
  readonly live: string | undefined
  /**
   * Ids of the keys that signed what is live, as the pointer says: with `trustedKeys`, whatever is wrong with
   * them is among the faults. Absent if it is not signed.
   */
  readonly signedBy: readonly string[] | undefined
  readonly snapshots: readonly VerifiedSnapshot[]
  readonly faults: readonly Fault[]
  readonly checked: Checked
}

/**
 * Checks a root, and changes nothing. Damage is reported, all of it, and never thrown.
 *
 * Throws `NotFound` if nothing is published or the run is not there, `Unavailable` if the store does not
 * answer, `Unsupported` if a later version of vecsnap wrote the pointer or a manifest, or a backend's package
 * is not installed.
 */
export async function verifyRoot(root: Root, options: VerifyOptions = {}): Promise<VerifyReport> {
  return withRoot(root, options, async (store) => {
    const { snapshot = "live", trustedKeys, signal } = options
    const trusted = trustedKeys && (await loadTrustedKeys("trustedKeys", trustedKeys))
    const other = await readOtherPointer(store, { signal })
    if (other !== undefined) return verifyOther(store, other, options, trusted)
    const pointer = await inspectPointer(store, { signal })
    const damage = pointer !== undefined && "problem" in pointer ? pointer.problem : undefined
    const live = pointer !== undefined && "run" in pointer ? pointer : undefined
    const keys: string[] = []
    if (snapshot === "all") {
      keys.push(...(await listManifests(store, { signal })).map(({ key }) => key))
      // A manifest that the pointer names and that is gone.
      if (live && !keys.includes(live.manifest)) keys.unshift(live.manifest)
    } else if (snapshot !== "live") keys.push((await findManifest(store, snapshot, { signal })).key)
    else if (live) keys.push(live.manifest)
    if (keys.length === 0 && damage === undefined) throw nothingPublished(store)

    const verdict = live && trusted && judgeSignatures(signedPublication(live), trusted)
    const believed = verdict?.valid ? live : undefined
    const believe: VerifierOptions["believe"] =
      trusted && ((bytes, key) => assertBelieved(bytes, key, trusted, believed))
    return withVerifier(store, { ...options, believe }, async (verifier) => {
      const checks: SnapshotCheck[] = []
      for (const key of keys) checks.push(await verifier.check(key))
      const distrust = verdict?.valid === false ? `${POINTER_KEY} ${verdict.reason}` : undefined
      const faults = mergeFaults(checks, live?.manifest, [
        { message: damage, advice: REPAIR_ADVICE },
        { message: distrust, advice: SIGN_ADVICE },
      ])
      const { objects, ...checked } = verifier.checked()
      return {
        url: store.url,
        format: vecsnapFormat.name,
        deep: options.deep === true,
        intact: faults.length === 0,
        live: live?.run,
        signedBy: live && liveOf(live).signedBy,
        snapshots: checks.map((check) => ({
          run: runOf(check.key),
          manifest: check.key,
          live: check.key === live?.manifest,
          intact: check.faults.length === 0,
          rows: check.snapshot?.rows,
        })),
        faults,
        checked: { ...checked, objects: objects + (pointer === undefined ? 0 : 1) },
      }
    })
  })
}

/** {@link verifyRoot} of a root of another format, whose pointer can be read. */
async function verifyOther(
  store: ObjectStore,
  pointer: RootPointer,
  options: VerifyOptions,
  trusted: readonly TrustedKey[] | undefined,
): Promise<VerifyReport> {
  const { snapshot = "live", signal } = options
  const { format, run, manifest } = pointer
  if (trusted !== undefined) assertPointerSigned(pointer, trusted)
  const runs = new Map([[manifest, run]])
  if (snapshot === "all") {
    for (const entry of (await format.listPublished?.(store, { signal })) ?? [])
      runs.set(entry.manifest, entry.run)
  } else if (snapshot !== "live" && snapshot !== run) {
    format.assertRun("snapshot", snapshot)
    runs.clear()
    runs.set((await format.findRun(store, snapshot, { signal })).manifest, snapshot)
  }
  return withVerifier(store, { ...options, format }, async (verifier) => {
    const checks: SnapshotCheck[] = []
    for (const key of runs.keys()) checks.push(await verifier.check(key))
    const faults = mergeFaults(checks, manifest, [], (key) => runs.get(key)!)
    const { objects, ...checked } = verifier.checked()
    return {
      url: store.url,
      format: format.name,
      deep: options.deep === true,
      intact: faults.length === 0,
      live: run,
      signedBy: undefined,
      snapshots: checks.map((check) => ({
        run: runs.get(check.key)!,
        manifest: check.key,
        live: check.key === manifest,
        intact: check.faults.length === 0,
        rows: check.snapshot?.rows,
      })),
      faults: faults.map((fault) => ({ ...fault, advice: OTHER_FORMAT_ADVICE })),
      checked: { ...checked, objects: objects + 1 },
    }
  })
}

/** Throws `Corrupt` unless a key vouches for a manifest, or a pointer that one has signed does. */
function assertBelieved(
  bytes: Uint8Array,
  key: string,
  trusted: readonly TrustedKey[],
  believed: Pointer | undefined,
): void {
  if (believed?.manifest !== key) assertSigned(key, signedManifest(bytes, key), trusted)
  else if (believed.signed?.manifestSha256 !== sha256OfBytes(bytes))
    throw distrusted(key, "other-manifest", `is not the one that ${POINTER_KEY} was signed for`)
}

/** Runs `use` with a verifier, and leaves no temporary file behind. */
export async function withVerifier<T>(
  store: ObjectStore,
  {
    deep = false,
    tempDir,
    believe,
    signal,
    trust,
    isolation,
    format = vecsnapFormat,
  }: DepthOptions & Pick<VerifierOptions, "believe"> & { readonly format?: SnapshotFormat },
  use: (verifier: Verifier) => Promise<T>,
): Promise<T> {
  assertTrust({ trust, isolation })
  return withTempDir(tempDir, "vecsnap-verify", async (dir) => {
    const verifier = createVerifier(store, format, { deep, dir, believe, signal, trust, isolation })
    try {
      return await use(verifier)
    } finally {
      await verifier.close()
    }
  })
}

/** The run of a manifest, by its key. */
function runOf(key: string): string {
  const parsed = parseKey(key)
  if (parsed?.kind !== "manifest") throw new TypeError(`${key} is not the key of a manifest`)
  return parsed.run
}

/** All faults, each once, with the snapshots that it concerns. */
function mergeFaults(
  checks: readonly SnapshotCheck[],
  liveKey: string | undefined,
  ofPointer: readonly { readonly message: string | undefined; readonly advice: string }[],
  runOfKey: (key: string) => string = runOf,
): readonly Fault[] {
  const merged = new Map<string, { readonly found: Found; readonly keys: string[] }>()
  for (const { key, faults } of checks) {
    for (const found of faults) {
      const known = merged.get(found.message)
      if (known === undefined) merged.set(found.message, { found, keys: [key] })
      else known.keys.push(key)
    }
  }
  const pointer = ofPointer.flatMap(({ message, advice }) =>
    message === undefined ? [] : [{ key: POINTER_KEY, message, advice, runs: [] }],
  )
  const others = Array.from(merged.values(), ({ found, keys }) => ({
    ...found,
    advice: liveKey === undefined || keys.includes(liveKey) ? LIVE_ADVICE : OTHER_ADVICE,
    runs: keys.map(runOfKey),
  }))
  return [...pointer, ...others]
}

const REPAIR_ADVICE = "make an intact snapshot live with --repair-pointer"
const SIGN_ADVICE = "find out who wrote it, then make a signed snapshot live with --repair-pointer --sign-key"
const LIVE_ADVICE =
  "restore the object, or make an intact snapshot live with --repair-pointer and build again"
const OTHER_FORMAT_ADVICE = "restore the object, or publish again with the program that wrote it"
const OTHER_ADVICE = "restore the object, or build again; the live snapshot does not need it"
