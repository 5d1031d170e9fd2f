/**
 * Whether an object is what its manifest says, and its download as a file that is. What is not throws
 * `Corrupt`, naming the object and both values.
 */
import { mkdir } from "node:fs/promises"
import { dirname } from "node:path"
import { corrupt, notFound } from "../errors.js"
import { sha256OfBytes, sha256OfFile } from "../storage/checksum.js"
import { fileError, OWNER_ONLY_DIRECTORY } from "../storage/files.js"
import type { CallOptions, ObjectStore } from "../storage/store.js"
import type { StoredFile } from "./snapshot.js"

export function assertSize(key: string, actual: number, expected: number): void {
  if (actual === expected) return
  throw corrupt(`${key} has ${actual} bytes, the manifest says ${expected}`, { key, expected, actual })
}

/** Nothing to compare with where a format records no checksums. */
export function assertSha256(key: string, actual: string, expected: string | undefined): void {
  if (expected === undefined || actual === expected) return
  throw corrupt(`${key} is damaged: its SHA-256 is ${actual}, the manifest says ${expected}`, {
    key,
    expected,
    actual,
  })
}

/** An object that is read whole. Throws `NotFound` or, if it is not what `file` says, `Corrupt`. */
export async function readVerified(
  store: ObjectStore,
  { key, size, sha256 }: StoredFile,
  options?: CallOptions,
): Promise<Uint8Array> {
  const object = await store.get(key, { ...options, maxBytes: size })
  if (object === undefined)
    throw notFound(`${store.url} has no ${key}, which its manifest lists`, { url: store.url, key })
  assertSize(key, object.body.length, size)
  assertSha256(key, sha256OfBytes(object.body), sha256)
  return object.body
}

/**
 * Downloads an object to `path`, whose folder is made, and checks it. Returns false if the store does not
 * have it; throws `Corrupt` if it is not what `file` says.
 */
export async function downloadIfThere(
  store: ObjectStore,
  { key, size, sha256 }: StoredFile,
  path: string,
  options?: CallOptions,
): Promise<boolean> {
  await mkdir(dirname(path), { recursive: true, mode: OWNER_ONLY_DIRECTORY }).catch((error) => {
    throw fileError("make", dirname(path), error)
  })
  const info = await store.getFile(key, path, { ...options, expectedBytes: size })
  if (info === undefined) return false
  assertSize(key, info.size, size)
  assertSha256(key, await sha256OfFile(path), sha256)
  return true
}

/** {@link downloadIfThere} of what must be there: throws `NotFound`, naming it, if it is not. */
export async function download(
  store: ObjectStore,
  file: StoredFile,
  path: string,
  options?: CallOptions,
): Promise<void> {
  if (!(await downloadIfThere(store, file, path, options)))
    throw notFound(`${file.key} is missing`, { key: file.key })
}
