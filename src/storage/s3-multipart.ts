/**
 * Uploads in parts: what S3 asks for above 5 GB, and faster long before that.
 */
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  type S3Client,
  UploadPartCommand,
} from "@aws-sdk/client-s3"
import type { Semaphore } from "../async/semaphore.js"
import { isVecsnapError, unsupported, VecsnapError } from "../errors.js"
import type { BodySource } from "./files.js"
import type { Retry } from "./retry.js"

/** The most parts that an upload may have. */
const MAX_PARTS = 10_000
const MIB = 1024 * 1024
/** Parts of one upload in flight. */
const PARTS_IN_FLIGHT = 4
/** The permission that all steps of an upload need, except its removal. */
const PUT_OBJECT = "s3:PutObject"

export interface Part {
  /** From 1. */
  readonly number: number
  readonly start: number
  /** Exclusive. */
  readonly end: number
}

/**
 * Cuts `sizeBytes` into parts of `partBytes`, or of more whole MiB where there would be more than 10,000 of
 * them.
 */
export function planParts(sizeBytes: number, partBytes: number): Part[] {
  const needed = Math.ceil(sizeBytes / MAX_PARTS)
  const step = needed <= partBytes ? partBytes : Math.ceil(needed / MIB) * MIB
  const parts: Part[] = []
  for (let start = 0; start < sizeBytes; start += step) {
    parts.push({ number: parts.length + 1, start, end: Math.min(start + step, sizeBytes) })
  }
  return parts
}

/** Sends one request, with our errors for the SDK's. */
export type S3Send = <T>(
  action: string,
  signal: AbortSignal | undefined,
  request: (client: S3Client, options: { abortSignal?: AbortSignal }) => Promise<T>,
) => Promise<T>

/** The headers of a conditional write. */
export interface Precondition {
  readonly IfMatch?: string
  readonly IfNoneMatch?: string
}

export interface MultipartUpload {
  readonly send: S3Send
  readonly target: { readonly Bucket: string; readonly Key: string }
  readonly source: BodySource
  readonly parts: readonly Part[]
  /** Of the object that is made: its type, how it is stored. */
  readonly creation: { readonly ContentType: string }
  /** Sends a write with the caller's precondition. */
  readonly conditionally: <T>(write: (precondition: Precondition) => Promise<T>) => Promise<T>
  /** Bounds the pieces of files in memory, over all uploads. */
  readonly pieces: Semaphore
  /** Tries a part again, so that one lost part does not cost the whole upload. */
  readonly retry: Retry
  readonly signal: AbortSignal | undefined
}

/**
 * Uploads in parts and returns the ETag, if the store gave one. If anything fails, the parts are removed; if
 * that fails too, the error says so, since parts that stay cost money unseen.
 */
export async function uploadInParts(upload: MultipartUpload): Promise<string | undefined> {
  const { send, target, creation, conditionally, signal } = upload
  const create = new CreateMultipartUploadCommand({ ...target, ...creation })
  const { UploadId } = await send(PUT_OBJECT, signal, (client, options) => client.send(create, options))
  if (UploadId === undefined) throw unsupported("the store began an upload in parts without giving it an id")
  try {
    const etags = await uploadParts(upload, UploadId)
    const MultipartUpload = { Parts: etags.map((ETag, i) => ({ ETag, PartNumber: i + 1 })) }
    const completed = await conditionally((precondition) => {
      const complete = new CompleteMultipartUploadCommand({
        ...target,
        ...precondition,
        UploadId,
        MultipartUpload,
      })
      return send(PUT_OBJECT, signal, (client, options) => client.send(complete, options))
    })
    return completed.ETag
  } catch (error) {
    throw await afterRemovingParts(upload, UploadId, error)
  }
}

/**
 * Uploads all parts, a few at a time, and returns their ETags in order. Returns or throws only when all have
 * ended.
 */
async function uploadParts(upload: MultipartUpload, UploadId: string): Promise<string[]> {
  const { send, target, source, parts, pieces, retry } = upload
  const etags: string[] = []
  // The first part that fails stops the others.
  const stop = new AbortController()
  const signal = upload.signal === undefined ? stop.signal : AbortSignal.any([upload.signal, stop.signal])

  const uploadPart = (part: Part) =>
    pieces.run(async () => {
      const Body = await source.read(part.start, part.end)
      const command = new UploadPartCommand({ ...target, UploadId, PartNumber: part.number, Body })
      const { ETag } = await send(PUT_OBJECT, signal, (client, options) => client.send(command, options))
      if (ETag === undefined) throw unsupported(`the store gave no ETag for part ${part.number}`)
      etags[part.number - 1] = ETag
    }, signal)

  let failure: unknown
  const queue = parts.values()
  async function work(): Promise<void> {
    try {
      for (const part of queue) await retry(() => uploadPart(part), signal)
    } catch (error) {
      failure ??= error
      stop.abort(error)
    }
  }
  await Promise.all(Array.from({ length: PARTS_IN_FLIGHT }, work))
  if (failure !== undefined) throw failure
  return etags
}

/** Removes the parts. Returns the error to throw: `failure`, extended if the parts could not be removed. */
async function afterRemovingParts(
  { send, target }: MultipartUpload,
  UploadId: string,
  failure: unknown,
): Promise<unknown> {
  try {
    const abort = new AbortMultipartUploadCommand({ ...target, UploadId })
    // Without the caller's signal, which may be what ended the upload.
    await send("s3:AbortMultipartUpload", undefined, (client) => client.send(abort))
    return failure
  } catch (reason) {
    if (!isVecsnapError(reason) || !isVecsnapError(failure)) return failure
    // Gone already: the upload was completed after all, and only the reply was lost.
    if (reason.details.code === "NoSuchUpload") return failure
    const message = `${failure.message}; and its parts stay behind as upload ${UploadId}, since ${reason.message}`
    return new VecsnapError(failure.tag, message, { ...failure.details, uploadId: UploadId }, failure.cause)
  }
}
