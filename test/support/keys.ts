import { createPrivateKey, createPublicKey } from "node:crypto"
import type { SigningOptions } from "../../src/index.js"
import type { Signing } from "../../src/manifest/signing.js"
import { createKeyPair, keyId, type SigningKey, type TrustedKey } from "../../src/snapshot/signatures/keys.js"

/** A pair of keys in every form that tests need. */
export interface TestKey {
  readonly id: string
  /** PEM of the private key, as `signKey` takes it. */
  readonly sign: NonNullable<SigningOptions["signKey"]> & string
  /** PEM of the public key, as `trustedKeys` takes it. */
  readonly trust: string
  readonly signing: SigningKey
  readonly trusted: TrustedKey
}

export function testKey(
  { privatePem, publicPem }: Omit<ReturnType<typeof createKeyPair>, "id"> = createKeyPair(),
): TestKey {
  const privateKey = createPrivateKey(privatePem)
  const publicKey = createPublicKey(publicPem)
  const id = keyId(publicKey)
  return {
    id,
    sign: privatePem,
    trust: publicPem,
    signing: { id, privateKey, publicKey },
    trusted: { id, publicKey },
  }
}

/** What signs with these keys, and vouches for what they have signed. */
export const signingWith = (...keys: readonly TestKey[]): Signing => ({
  keys: keys.map(({ signing }) => signing),
  trusted: keys.map(({ trusted }) => trusted),
})

/**
 * Made once for the golden files, and worth nothing: its signatures are the same for ever, since ed25519 takes
 * no random numbers.
 */
export const GOLDEN_KEY = testKey({
  privatePem: `-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIFBoHNn+0E9tsSi6rTrD03VlD4tOdq1yW5sOARiPLy64
-----END PRIVATE KEY-----
`,
  publicPem: `-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEACBkSLv7RvcbhX/mXyVLblUg2xGrxWxi20kEYbZD6xuo=
-----END PUBLIC KEY-----
`,
})
