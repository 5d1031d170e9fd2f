/** What the settings of a store add to its requests, by the requests that it goes with. Pure. */
import { invalidInput } from "../errors.js"

/** How a store is to encrypt what is written; without it the bucket's own rule holds. */
export type S3Encryption =
  /** By keys of the store. */
  | { readonly type: "AES256" }
  /** By a key of KMS; default the bucket's. Readers need permission to use it, and no setting. */
  | { readonly type: "aws:kms" | "aws:kms:dsse"; readonly keyId?: string | undefined }
  /**
   * By a key of your own, of 32 bytes (SSE-C), which the store forgets: every reader must be given it, too.
   */
  | { readonly type: "customer-key"; readonly key: Uint8Array }

export interface RequestSettings {
  readonly encryption?: S3Encryption | undefined
  readonly storageClass?: string | undefined
  readonly acl?: string | undefined
  readonly requesterPays?: boolean | undefined
  readonly headers?: Readonly<Record<string, string>> | undefined
}

/** As the AWS SDK names them. */
export interface S3Parameters {
  /** Of every request. */
  readonly all: { readonly RequestPayer?: "requester" }
  /** Of every request about the content of an object. */
  readonly object: { readonly SSECustomerAlgorithm?: "AES256"; readonly SSECustomerKey?: string }
  /** Of every request that makes an object. */
  readonly write: Readonly<Record<string, never>>
}

const CUSTOMER_KEY_BYTES = 32
/** What requests are signed with, and what the SDK says of a body: another value could only break them. */
const RESERVED =
  /^(authorization|host|content-length|content-md5|x-amz-(date|content-sha256|security-token|checksum-.*))$/i

/** Throws `InvalidInput`, naming the option that is wrong, and no key. */
export function parametersOf(settings: RequestSettings): S3Parameters {
  const { encryption, storageClass, acl, requesterPays, headers } = settings
  const reserved = Object.keys(headers ?? {}).find((name) => RESERVED.test(name))
  if (reserved !== undefined)
    throw invalidInput(`option s3.headers has ${reserved}, which is set for each request`, {
      header: reserved,
    })
  const write = {
    ...(storageClass !== undefined && { StorageClass: storageClass }),
    ...(acl !== undefined && { ACL: acl }),
    ...(encryption !== undefined &&
      encryption.type !== "customer-key" && { ServerSideEncryption: encryption.type }),
    ...(encryption !== undefined && "keyId" in encryption && { SSEKMSKeyId: encryption.keyId }),
  }
  return {
    all: requesterPays ? { RequestPayer: "requester" } : {},
    object:
      encryption?.type === "customer-key"
        ? { SSECustomerAlgorithm: "AES256", SSECustomerKey: customerKey(encryption.key) }
        : {},
    // The SDK's types list the names that it knows; stores have others.
    write: write as Record<string, never>,
  }
}

function customerKey(key: Uint8Array): string {
  if (key.length !== CUSTOMER_KEY_BYTES) {
    throw invalidInput(`option s3.encryption.key has ${key.length} bytes, expected ${CUSTOMER_KEY_BYTES}`, {
      bytes: key.length,
    })
  }
  return Buffer.from(key).toString("base64")
}
