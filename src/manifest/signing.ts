/** Signing a publication: the options of whoever moves the pointer, and what must hold before it is. */
import { corrupt, type ErrorDetails, invalidInput, notFound } from "../errors.js"
import {
  loadSigningKeys,
  loadTrustedKeys,
  type SigningKey,
  type TrustedKey,
  type TrustedKeyOption,
} from "../snapshot/signatures/keys.js"
import { judgeSignatures, signStatement } from "../snapshot/signatures/verdict.js"
import { sha256OfBytes } from "../storage/checksum.js"
import type { CallOptions, ObjectStore } from "../storage/store.js"
import { listOf } from "../wording.js"
import { decodeManifest, MANIFEST_MAX_BYTES } from "./codec.js"
import type { Manifest } from "./manifest.js"
import type { NextPointer, Pointer } from "./pointer.js"
import { publicationStatement, SIGNATURES_MAX, signedManifest, signedPublication } from "./signed.js"

/** Who publishes: with which keys, or without any. */
export interface SigningOptions {
  /**
   * Signs the publication: an ed25519 private key in PEM (PKCS #8), or the path of its file; several sign
   * side by side, eight at most. Default: nothing is signed.
   */
  readonly signKey?: string | readonly string[] | undefined
  /**
   * Further public keys whose snapshots are signed again: those of older keys. Snapshots that neither these
   * nor the keys of `signKey` have signed are not. Only with `signKey`.
   */
  readonly trustedKeys?: readonly TrustedKeyOption[] | undefined
  /** Publish without a signature although what is live has one; default false. Not with `signKey`. */
  readonly unsigned?: boolean | undefined
}

/** Keys that sign a publication, and those whose snapshots they vouch for. */
export interface Signing {
  readonly keys: readonly SigningKey[]
  readonly trusted: readonly TrustedKey[]
}

/** What signs the next publication; "unsigned" if that is wanted, `undefined` if nothing is said. */
export type SigningChoice = Signing | "unsigned" | undefined

/** Reads the keys. Throws `InvalidInput` for what is none, and for options that contradict each other. */
export async function loadSigning(options: SigningOptions): Promise<SigningChoice> {
  const { signKey, trustedKeys, unsigned = false } = options
  if (signKey === undefined) {
    if (trustedKeys !== undefined)
      throw invalidInput("option trustedKeys says whose snapshots are signed again: it needs signKey", {
        option: "trustedKeys",
      })
    return unsigned ? "unsigned" : undefined
  }
  if (unsigned) throw invalidInput("options signKey and unsigned exclude each other", { option: "unsigned" })
  const keys = await loadSigningKeys("signKey", signKey)
  if (keys.length === 0 || keys.length > SIGNATURES_MAX) {
    const found = keys.length === 0 ? "an empty list" : `${keys.length} keys`
    throw invalidInput(`option signKey is ${found}, expected 1 to ${SIGNATURES_MAX}`, { option: "signKey" })
  }
  const more = trustedKeys === undefined ? [] : await loadTrustedKeys("trustedKeys", trustedKeys)
  return { keys, trusted: [...more, ...keys] }
}

export const isSigning = (choice: SigningChoice): choice is Signing => typeof choice === "object"

/** Throws `InvalidInput` for a publication that has no signature where what is live has one. */
export function assertSigningKept(
  store: ObjectStore,
  live: Pointer | undefined,
  choice: SigningChoice,
): void {
  if (choice !== undefined || live?.signed === undefined) return
  const keys = live.signed.signatures.map(({ key }) => key)
  throw signatureMissing(`what is live at ${store.url} is signed by key ${listOf(keys, String)}`, {
    url: store.url,
    keys,
  })
}

/** The same where there is no pointer to go by: then by the manifest that is to become live. */
export async function assertSigningKeptBy(
  store: ObjectStore,
  key: string,
  choice: SigningChoice,
  options: CallOptions,
): Promise<void> {
  if (choice !== undefined) return
  const object = await store.get(key, { ...options, maxBytes: MANIFEST_MAX_BYTES })
  const signatures = object && signedManifest(object.body, key)?.signatures
  if (signatures === undefined) return
  const keys = signatures.map((signature) => signature.key)
  throw signatureMissing(`${key} at ${store.url} is signed by key ${listOf(keys, String)}`, { key, keys })
}

const signatureMissing = (found: string, details: ErrorDetails): Error =>
  invalidInput(
    `${found}, and this publication would not be: give the key (signKey, --sign-key), or say that readers shall do without (unsigned, --unsigned)`,
    details,
  )

/** A manifest that one of the keys has signed, read from bytes that were checked before. */
export interface VouchedManifest {
  readonly manifest: Manifest
  /** Of all its bytes. */
  readonly sha256: string
}

/**
 * Reads a manifest that one of the trusted keys vouches for: by its own signatures, or by those of `live` if
 * that is the one. Whoever signs a publication signs what the manifest names; without this, whoever can write
 * to the root would get anything signed.
 *
 * Throws `Corrupt` with `details.distrust` if none does, `NotFound` if the manifest is gone.
 */
export async function readVouchedManifest(
  store: ObjectStore,
  key: string,
  { trusted }: Pick<Signing, "trusted">,
  { live, ...options }: CallOptions & { readonly live?: Pointer | undefined } = {},
): Promise<VouchedManifest> {
  const object = await store.get(key, { ...options, maxBytes: MANIFEST_MAX_BYTES })
  if (object === undefined) throw notFound(`${store.url} has no ${key}`, { url: store.url, key })
  const sha256 = sha256OfBytes(object.body)
  const byPointer =
    live?.manifest === key &&
    live.signed?.manifestSha256 === sha256 &&
    judgeSignatures(signedPublication(live), trusted).valid
  if (!byPointer) assertVouched(object.body, key, trusted)
  return { manifest: decodeManifest(object.body, key), sha256 }
}

function assertVouched(bytes: Uint8Array, key: string, trusted: readonly TrustedKey[]): void {
  const verdict = judgeSignatures(signedManifest(bytes, key), trusted)
  if (verdict.valid) return
  const { distrust } = verdict
  const why = distrust === "unsigned" ? "has no signature" : verdict.reason
  throw corrupt(
    `${key} is not signed again: it ${why}; build the snapshot again with the key, or name the key that it was signed with as trusted`,
    { key, distrust },
  )
}

/**
 * A number above all that a root has given, whatever became of its pointer: the store's time in milliseconds
 * since 1970, which no root reaches by counting. Signed publications have it at least: readers remember the
 * highest number, and somebody may have put an old pointer back, or removed it.
 */
export const numberByTime = (publishedAt: Date): number => publishedAt.getTime()

/** A publication with its signatures. */
export const signPublication = <P extends NextPointer>(
  next: P,
  manifestSha256: string,
  { keys }: Pick<Signing, "keys">,
): P => ({
  ...next,
  signed: { manifestSha256, signatures: signStatement(publicationStatement(next, manifestSha256), keys) },
})
