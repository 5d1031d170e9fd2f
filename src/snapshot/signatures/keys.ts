/**
 * Ed25519 keys (RFC 8032) in PEM: private ones as PKCS #8 (RFC 5958), public ones as SPKI (RFC 8410), as
 * OpenSSL writes them. No message repeats anything of a key but its id.
 */
import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
} from "node:crypto"
import { readFile } from "node:fs/promises"
import { invalidInput, type VecsnapError } from "../../errors.js"
import { namedError } from "../../storage/files.js"
import { kindOf, shortened } from "../../wording.js"

/** A key that signs. */
export interface SigningKey {
  readonly id: string
  readonly privateKey: KeyObject
  readonly publicKey: KeyObject
}

/** A key that is believed. */
export interface TrustedKey {
  readonly id: string
  readonly publicKey: KeyObject
  /** What was signed later, by the time that is signed with it, is not believed. */
  readonly validUntil?: Date | undefined
}

/** A public key: PEM, or the path of a file with it. Either may hold several keys, one after another. */
export type TrustedKeyOption = string | { readonly key: string; readonly validUntil?: Date | undefined }

const ID_BYTES = 8
const FILE_MAX_BYTES = 64 * 2 ** 10
const PRIVATE = "PRIVATE KEY"
const PUBLIC = "PUBLIC KEY"
const BLOCK = /-----BEGIN ([A-Z0-9 ]+)-----[\s\S]*?-----END \1-----/g

/** What names a public key: the first 16 hex digits of the SHA-256 of its SPKI in DER. */
export const keyId = (publicKey: KeyObject): string =>
  createHash("sha256")
    .update(publicKey.export({ type: "spki", format: "der" }))
    .digest("hex")
    .slice(0, 2 * ID_BYTES)

/** A new pair of keys, in PEM. */
export function createKeyPair(): {
  readonly id: string
  readonly privatePem: string
  readonly publicPem: string
} {
  const { privateKey, publicKey } = generateKeyPairSync("ed25519")
  return {
    id: keyId(publicKey),
    privatePem: privateKey.export({ type: "pkcs8", format: "pem" }).toString(),
    publicPem: publicKey.export({ type: "spki", format: "pem" }).toString(),
  }
}

/**
 * Private keys, each in PEM or by the path of its file. Throws `InvalidInput`, naming `option` and the file,
 * for what is no such key.
 */
export async function loadSigningKeys(
  option: string,
  given: string | readonly string[],
): Promise<readonly SigningKey[]> {
  const keys: SigningKey[] = []
  for (const one of typeof given === "string" ? [given] : given) {
    const { blocks, where } = await readBlocks(option, one)
    for (const { label, pem } of blocks) {
      if (label === PUBLIC)
        throw invalidInput(`${where} is a public key, expected the private one, which signs`, { option })
      if (label !== PRIVATE) throw wrongLabel(option, where, label, PRIVATE)
      const privateKey = parsed(() => createPrivateKey(pem), option, where)
      const publicKey = createPublicKey(privateKey)
      keys.push({ id: keyId(publicKey), privateKey, publicKey })
    }
  }
  return distinct(keys)
}

/**
 * Public keys. Throws `InvalidInput`, naming `option` and the file, for what is no such key, and if there is
 * none at all: that would be believed by nobody, or by everybody.
 */
export async function loadTrustedKeys(
  option: string,
  given: readonly TrustedKeyOption[],
): Promise<readonly TrustedKey[]> {
  if (!Array.isArray(given) || given.length === 0) {
    const found = Array.isArray(given) ? "an empty list" : kindOf(given)
    throw invalidInput(`option ${option} is ${found}, expected a list of public keys`, { option })
  }
  const keys: TrustedKey[] = []
  for (const one of given as readonly TrustedKeyOption[]) {
    const { key, validUntil } = typeof one === "string" ? { key: one } : one
    if (validUntil !== undefined && !(validUntil instanceof Date && !Number.isNaN(validUntil.getTime())))
      throw invalidInput(`option ${option}: validUntil is ${kindOf(validUntil)}, expected a Date`, { option })
    const { blocks, where } = await readBlocks(option, key)
    for (const { label, pem } of blocks) {
      if (label.endsWith(PRIVATE)) {
        throw invalidInput(
          `${where} is a private key, expected the public one: who only reads must not have the private one`,
          { option, found: "private" },
        )
      }
      if (label !== PUBLIC) throw wrongLabel(option, where, label, PUBLIC)
      const publicKey = parsed(() => createPublicKey(pem), option, where)
      keys.push({ id: keyId(publicKey), publicKey, validUntil })
    }
  }
  return distinct(keys)
}

/** Each key once; the last one counts. */
function distinct<K extends { readonly id: string }>(keys: readonly K[]): readonly K[] {
  return [...new Map(keys.map((key) => [key.id, key])).values()]
}

interface Blocks {
  readonly blocks: readonly { readonly label: string; readonly pem: string }[]
  /** What messages call it: an option, and the file if it is one. */
  readonly where: string
}

async function readBlocks(option: string, given: string): Promise<Blocks> {
  if (typeof given !== "string" || given.trim() === "") {
    const found = typeof given === "string" ? "empty" : kindOf(given)
    throw invalidInput(`option ${option} is ${found}, expected a key in PEM or the path of its file`, {
      option,
    })
  }
  const isPem = given.includes("-----BEGIN ")
  const where = isPem ? `option ${option}` : `option ${option}: ${shortened(given, 200)}`
  const text = isPem ? given : await readKeyFile(given)
  const blocks = Array.from(text.matchAll(BLOCK), ([pem, label]) => ({ label: label!, pem }))
  if (blocks.length > 0) return { blocks, where }
  throw invalidInput(`${where} holds no key in PEM; vecsnap keys create makes a pair`, { option })
}

async function readKeyFile(path: string): Promise<string> {
  const content = await readFile(path).catch((error) => {
    throw namedError("read", path, error)
  })
  // What is so long is no key, and may be anything.
  return content.length > FILE_MAX_BYTES ? "" : content.toString()
}

function parsed(parse: () => KeyObject, option: string, where: string): KeyObject {
  let key: KeyObject
  try {
    key = parse()
  } catch {
    // Without the cause: what OpenSSL says may quote what it has read.
    throw invalidInput(`${where} is damaged: it is no key that can be read`, { option })
  }
  const type = key.asymmetricKeyType
  if (type === "ed25519") return key
  throw invalidInput(`${where} is a key of type ${type}, expected ed25519; vecsnap keys create makes one`, {
    option,
    type,
  })
}

function wrongLabel(option: string, where: string, label: string, expected: string): VecsnapError {
  const hint = label.startsWith("ENCRYPTED") ? "; decrypt it first: openssl pkey -in <file> -out <file>" : ""
  return invalidInput(
    `${where} begins with "BEGIN ${shortened(label)}", expected "BEGIN ${expected}"${hint}`,
    {
      option,
    },
  )
}
