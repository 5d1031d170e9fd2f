/** Signing statements, and judging the signatures that something carries. */
import { sign, verify } from "node:crypto"
import { corrupt, type VecsnapError } from "../../errors.js"
import { listOf } from "../../wording.js"
import type { SigningKey, TrustedKey } from "./keys.js"

/** A signature as it is stored. */
export interface Signature {
  /** Id of the key. */
  readonly key: string
  /** 64 bytes in hex. */
  readonly signature: string
}

/** What was signed, and by whom, as it is claimed. */
export interface SignedStatement {
  /** The bytes that were signed. */
  readonly statement: Uint8Array
  readonly signatures: readonly Signature[]
  /** As the statement has it. */
  readonly signedAt: Date
}

/** Why something is not believed, for programs: `details.distrust` of the error. */
export type Distrust =
  | "unsigned"
  | "unknown-key"
  | "bad-signature"
  | "key-expired"
  | "other-manifest"
  | "number-went-back"

export type SignatureVerdict =
  | { readonly valid: true; readonly by: readonly string[] }
  | { readonly valid: false; readonly distrust: Distrust; readonly reason: string }

/** Signatures of a statement by each of the keys. */
export const signStatement = (statement: Uint8Array, keys: readonly SigningKey[]): readonly Signature[] =>
  keys.map(({ id, privateKey }) => ({
    key: id,
    signature: sign(null, statement, privateKey).toString("hex"),
  }))

/**
 * Whether a statement is signed by one of the keys. Signatures of keys that are not known are passed over, so
 * that a root may be signed by an old and a new key for a while; one of a known key that does not fit is
 * refused even beside one that does, since nobody writes such.
 */
export function judgeSignatures(
  signed: SignedStatement | undefined,
  keys: readonly TrustedKey[],
): SignatureVerdict {
  if (signed === undefined || signed.signatures.length === 0)
    return refused("unsigned", "is not signed: publish it with the signing key")
  const { statement, signatures, signedAt } = signed
  const by: string[] = []
  let expired: TrustedKey | undefined
  for (const { key: id, signature } of signatures) {
    const key = keys.find((candidate) => candidate.id === id)
    if (key === undefined) continue
    if (!verify(null, statement, key.publicKey, Buffer.from(signature, "hex")))
      return refused("bad-signature", `was altered: the signature of key ${id} does not fit what it says`)
    if (key.validUntil !== undefined && signedAt > key.validUntil) expired = key
    else by.push(id)
  }
  if (by.length > 0) return { valid: true, by }
  if (expired !== undefined) {
    return refused(
      "key-expired",
      `was signed at ${signedAt.toISOString()} by key ${expired.id}, which is valid until ${expired.validUntil!.toISOString()}: publish again with a newer key`,
    )
  }
  const found = listOf(
    signatures.map(({ key }) => key),
    String,
  )
  const known = listOf(
    keys.map(({ id }) => id),
    String,
  )
  return refused(
    "unknown-key",
    `is signed by key ${found}, which is not trusted (trusted: ${known}): if that key is yours, add its public key`,
  )
}

const refused = (distrust: Distrust, reason: string): SignatureVerdict => ({ valid: false, distrust, reason })

/**
 * The keys, of those that are trusted, that have signed the statement. Throws `Corrupt` with
 * `details.distrust` if none has.
 */
export function assertSigned(
  what: string,
  signed: SignedStatement | undefined,
  keys: readonly TrustedKey[],
): readonly string[] {
  const verdict = judgeSignatures(signed, keys)
  if (verdict.valid) return verdict.by
  throw distrusted(what, verdict.distrust, verdict.reason)
}

/** @param reason a sentence's second half, after what it is about */
export const distrusted = (what: string, distrust: Distrust, reason: string): VecsnapError =>
  corrupt(`${what} ${reason}`, { key: what, distrust })
