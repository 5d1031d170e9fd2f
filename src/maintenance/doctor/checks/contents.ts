/** What checks write. */
import { createHash } from "node:crypto"

export const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text)
export const textOf = (body: Uint8Array | undefined): string | undefined =>
  body && new TextDecoder().decode(body)

/** Bytes without a period, so that pieces in the wrong place are found. */
export function pseudoRandomBytes(seed: number, sizeBytes: number): Uint8Array {
  return createHash("shake256", { outputLength: sizeBytes }).update(String(seed)).digest()
}
