/**
 * A store under a prefix of an S3 bucket, at AWS or any store that speaks its protocol.
 *
 * Bodies go out with a known length and a signed SHA-256, since older stores refuse, or store, the framing
 * that the SDK puts around streams. Files are therefore read into memory, a bounded number of pieces at a
 * time.
 */
import { createHash } from "node:crypto"
import type { FileHandle } from "node:fs/promises"
import { Readable } from "node:stream"
import { pipeline } from "node:stream/promises"
import {
  DeleteObjectsCommand,
  GetObjectCommand,
  type GetObjectCommandOutput,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  type S3Client,
} from "@aws-sdk/client-s3"
import { createSemaphore } from "../async/semaphore.js"
import {
  conflict,
  corrupt,
  isVecsnapError,
  throwIfAborted,
  unsupported,
  type VecsnapError,
} from "../errors.js"
import { createFile, OWNER_ONLY, withBody } from "./files.js"
import type { Retry } from "./retry.js"
import {
  assertExpectedSize,
  assertFits,
  assertKey,
  assertOnePrecondition,
  assertRange,
  assertReadKey,
  assertReadPrefix,
  isKey,
  isReadKey,
  s3Url,
} from "./rules.js"
import { createS3Client, type S3Access, type S3Settings } from "./s3-client.js"
import { isConnectionFailure, s3Error } from "./s3-errors.js"
import { type Precondition, planParts, type S3Send, uploadInParts } from "./s3-multipart.js"
import { parametersOf, type S3Parameters } from "./s3-parameters.js"
import type {
  CallOptions,
  ChangedObject,
  DeleteFailure,
  GetFileOptions,
  GetOptions,
  ListedObject,
  ObjectInfo,
  ObjectStore,
  PutBody,
  PutOptions,
  StoredObject,
  WholeGetOptions,
} from "./store.js"

const PART_BYTES = 16 * 1024 * 1024
/** Pieces of files in memory at a time, over all uploads of a store. */
const PIECES_IN_MEMORY = 8
/**
 * A store may refuse a write as soon as it has read the headers, and close the connection: then the reason
 * gets lost in the reset, if the body is too long for the buffers in between. Preconditions of such bodies
 * are looked at beforehand.
 */
const LONG_BODY_BYTES = 256 * 1024
/** The most keys that one DeleteObjects takes. */
const DELETE_BATCH = 1000

/**
 * Opens the store below `prefix` ("" for the whole bucket) of `bucket`. Nothing is sent before the first
 * call.
 *
 * @param retry tries the single parts of large uploads again; all else is for the caller to retry. Default:
 * once.
 */
export function openS3Store(
  bucket: string,
  prefix: string,
  settings: S3Settings = {},
  retry: Retry = (attempt) => attempt(),
): ObjectStore {
  return new S3Store(bucket, prefix, settings, retry)
}

class S3Store implements ObjectStore {
  readonly url: string
  readonly #bucket: string
  /** Empty, or ends with "/". */
  readonly #prefix: string
  readonly #settings: S3Settings
  readonly #parameters: S3Parameters
  readonly #retry: Retry
  readonly #pieces = createSemaphore(PIECES_IN_MEMORY)
  #access: Promise<S3Access> | undefined
  /** Whether credentials have expired: then what is found next is read anew. */
  #anew = false

  constructor(bucket: string, prefix: string, settings: S3Settings, retry: Retry) {
    this.url = s3Url(bucket, prefix)
    this.#bucket = bucket
    this.#prefix = prefix === "" ? "" : `${prefix}/`
    this.#settings = settings
    this.#parameters = parametersOf(settings)
    this.#retry = retry
  }

  async get(key: string, options: GetOptions = {}): Promise<StoredObject | undefined> {
    return this.#get(key, options)
  }

  async getIfChanged(key: string, etag: string, options?: WholeGetOptions): Promise<ChangedObject> {
    try {
      const object = await this.#get(key, { ...options, ifNoneMatch: etag })
      // Some stores overlook the precondition, and send what the caller has.
      return object?.etag === etag ? "unchanged" : object
    } catch (error) {
      if (isVecsnapError(error) && error.details.status === 304) return "unchanged"
      throw error
    }
  }

  async #get(
    key: string,
    options: GetOptions & { readonly ifNoneMatch?: string },
  ): Promise<StoredObject | undefined> {
    const { range, signal, ifNoneMatch } = options
    if (range !== undefined) assertRange(range)
    const command = new GetObjectCommand({
      ...this.#source(key),
      ...(range !== undefined && { Range: `bytes=${range.start}-${range.end - 1}` }),
      ...(ifNoneMatch !== undefined && { IfNoneMatch: ifNoneMatch }),
    })
    return this.#read(key, signal, async (client, sendOptions) => {
      const output = await client.send(command, sendOptions)
      const size = range === undefined ? output.ContentLength : sizeOfRange(output, range.start)
      if (range !== undefined && size === undefined) {
        bodyOf(output).destroy()
        const got = `HTTP ${output.$metadata.httpStatusCode} with ${output.ContentRange ?? "no Content-Range"}`
        throw corrupt(`${this.url}/${key}: asked for bytes from ${range.start} to ${range.end}, got ${got}`, {
          key,
          expected: range,
          got,
        })
      }
      const expected = range === undefined ? size : range.end - range.start
      const fits = (sizeBytes: number) => assertFits(options, sizeBytes, `${this.url}/${key}`, key)
      const body = await collect(bodyOf(output), size, fits)
      if (expected !== undefined && body.length !== expected) {
        throw this.#wrongLength(key, expected, body.length)
      }
      return { ...infoOf(output, size ?? body.length), body }
    })
  }

  async getFile(key: string, path: string, options: GetFileOptions = {}): Promise<ObjectInfo | undefined> {
    const { signal, expectedBytes } = options
    const command = new GetObjectCommand(this.#source(key))
    return this.#read(key, signal, async (client, sendOptions) => {
      const output = await client.send(command, sendOptions)
      const body = bodyOf(output)
      const place = `${this.url}/${key}`
      try {
        if (output.ContentLength !== undefined) assertExpectedSize(options, output.ContentLength, place, key)
        const fill = async (handle: FileHandle): Promise<ObjectInfo> => {
          const file = handle.createWriteStream()
          // Not all stores announce a length.
          await pipeline(body, upTo(expectedBytes, place, key), file)
          const size = file.bytesWritten
          const expected = output.ContentLength ?? size
          if (size !== expected) throw this.#wrongLength(key, expected, size)
          assertExpectedSize(options, size, place, key)
          return infoOf(output, size)
        }
        return await createFile(path, fill, OWNER_ONLY)
      } finally {
        // Where no file could be created, the body was not read, and would keep its connection.
        body.destroy()
      }
    })
  }

  async head(key: string, { signal }: CallOptions = {}): Promise<ObjectInfo | undefined> {
    const command = new HeadObjectCommand(this.#source(key))
    return this.#read(key, signal, async (client, options) => {
      const output = await client.send(command, options)
      return infoOf(output, output.ContentLength ?? 0)
    })
  }

  async put(key: string, body: PutBody, options: PutOptions = {}): Promise<{ readonly etag: string }> {
    const target = this.#target(key)
    assertOnePrecondition(options)
    const { signal, contentType = "application/octet-stream" } = options
    throwIfAborted(signal)
    const send = this.#sender(key)
    const partBytes = this.#settings.partBytes ?? PART_BYTES

    const etag = await withBody(body, async (source) => {
      if (source.sizeBytes > LONG_BODY_BYTES) await this.#refuseEarly(key, options)
      if (source.sizeBytes > partBytes) {
        return uploadInParts({
          send,
          target,
          creation: { ...this.#parameters.write, ContentType: contentType },
          source,
          parts: planParts(source.sizeBytes, partBytes),
          conditionally: (write) => this.#conditionally(key, options, write),
          pieces: this.#pieces,
          retry: this.#retry,
          signal,
        })
      }
      const putWhole = async () => {
        const Body = await source.read(0, source.sizeBytes)
        const output = await this.#conditionally(key, options, (precondition) => {
          const command = new PutObjectCommand({
            ...target,
            ...this.#parameters.write,
            ...precondition,
            Body,
            ContentType: contentType,
          })
          return send("s3:PutObject", signal, (client, sendOptions) => client.send(command, sendOptions))
        })
        return output.ETag
      }
      return body instanceof Uint8Array ? putWhole() : this.#pieces.run(putWhole, signal)
    })
    if (etag === undefined)
      throw unsupported(`${this.url}/${key}: the store gave no ETag for what was written`)
    return { etag }
  }

  async *list(prefix: string, { signal }: CallOptions = {}): AsyncGenerator<ListedObject> {
    assertReadPrefix(prefix)
    // Objects behind a slash too many are listed to those who ask for them.
    const isListed = prefix.startsWith("/") ? isReadKey : isKey
    const send = this.#sender(prefix)
    let token: string | undefined
    do {
      const command = new ListObjectsV2Command({
        ...this.#parameters.all,
        Bucket: this.#bucket,
        Prefix: this.#prefix + prefix,
        ...(token !== undefined && { ContinuationToken: token }),
      })
      const page = await send("s3:ListBucket", signal, (client, options) => client.send(command, options))
      for (const object of page.Contents ?? []) {
        const key = object.Key?.slice(this.#prefix.length) ?? ""
        throwIfAborted(signal)
        // Consoles create objects like "folder/" to show empty folders; no key of ours looks so.
        if (isListed(key)) yield { key, ...infoOf(object, object.Size ?? 0) }
      }
      token = page.IsTruncated ? page.NextContinuationToken : undefined
    } while (token !== undefined)
  }

  async delete(keys: readonly string[], { signal }: CallOptions = {}): Promise<readonly DeleteFailure[]> {
    const objects = keys.map((key) => ({ Key: this.#target(key).Key }))
    const failures: DeleteFailure[] = []
    for (let i = 0; i < objects.length; i += DELETE_BATCH) {
      const command = new DeleteObjectsCommand({
        ...this.#parameters.all,
        Bucket: this.#bucket,
        Delete: { Objects: objects.slice(i, i + DELETE_BATCH), Quiet: true },
      })
      if (this.#settings.requestChecksums !== "when-supported") useContentMd5(command)
      const output = await this.#sender()("s3:DeleteObject", signal, (client, options) =>
        client.send(command, options),
      )
      for (const { Key, Code, Message } of output.Errors ?? []) {
        if (Code === "NoSuchKey") continue
        const reason = [Code, Message].filter(Boolean).join(": ") || "no reason given"
        failures.push({ key: Key?.slice(this.#prefix.length) ?? "", reason })
      }
    }
    return failures
  }

  close(): void {
    this.#access?.then(
      ({ client }) => client.destroy(),
      () => undefined,
    )
  }

  #target(key: string): S3Place {
    assertKey(key)
    return this.#place(key)
  }

  #source(key: string): S3Place {
    assertReadKey(key)
    return this.#place(key)
  }

  #place(key: string): S3Place {
    const { all, object } = this.#parameters
    return { Bucket: this.#bucket, Key: this.#prefix + key, ...all, ...object }
  }

  #connect(): Promise<S3Access> {
    this.#access ??= createS3Client(this.#settings, this.#anew).catch((error) => {
      this.#access = undefined
      throw error
    })
    return this.#access
  }

  /** Makes the next call look for credentials again. Others may have done so since this one was sent. */
  #forgetCredentials(used: Promise<S3Access>): void {
    if (this.#access !== used) return
    this.#access = undefined
    this.#anew = true
    // What is under way goes on, and its connections end with it.
    used.then(
      ({ connections }) => connections.closeIdle(),
      () => undefined,
    )
  }

  /** Sends requests about `key`, or about the whole store. */
  #sender(key = ""): S3Send {
    const url = key === "" ? this.url : `${this.url}/${key}`
    return async (action, signal, request) => {
      throwIfAborted(signal)
      const connecting = this.#connect()
      let access: S3Access | undefined
      try {
        access = await connecting
        return await request(access.client, signal === undefined ? {} : { abortSignal: signal })
      } catch (error) {
        const renewable = typeof this.#settings.credentials !== "object"
        const failure = s3Error({ url, bucket: this.#bucket, action, renewable }, error, signal)
        if (isConnectionFailure(failure)) access?.connections.closeIdle()
        if (failure.details.recovery === "credentials") this.#forgetCredentials(connecting)
        throw failure
      }
    }
  }

  /** Sends a read; a missing object, unlike a missing bucket, is undefined. */
  async #read<T>(
    key: string,
    signal: AbortSignal | undefined,
    request: S3Request<T>,
  ): Promise<T | undefined> {
    try {
      return await this.#sender(key)("s3:GetObject", signal, request)
    } catch (error) {
      if (isMissingObject(error)) return undefined
      throw error
    }
  }

  /** Sends a write with the precondition that `options` ask for. */
  async #conditionally<T>(
    key: string,
    { ifAbsent, ifMatch }: PutOptions,
    write: (precondition: Precondition) => Promise<T>,
  ): Promise<T> {
    if (ifAbsent) return write({ IfNoneMatch: "*" })
    if (ifMatch === undefined) return write({})
    try {
      return await write({ IfMatch: ifMatch }).catch((error) => {
        const bare = ifMatch.replace(/^"(.*)"$/, "$1")
        if (bare === ifMatch || !isVecsnapError(error, "Conflict")) throw error
        // Ceph's gateway matches the ETag only without its quotes. Elsewhere a lost race is just lost twice.
        return write({ IfMatch: bare })
      })
    } catch (error) {
      // What is missing cannot match: stores answer 404 here, not 412.
      if (isMissingObject(error)) throw this.#conflict(key, ifMatch, undefined, error)
      throw error
    }
  }

  /** Looks at a precondition before a long upload. What counts is the one that goes with it. */
  async #refuseEarly(key: string, { ifAbsent, ifMatch, signal }: PutOptions): Promise<void> {
    if (!ifAbsent && ifMatch === undefined) return
    const existing = await this.head(key, { signal })
    if (ifAbsent ? existing !== undefined : existing?.etag !== ifMatch) {
      throw this.#conflict(key, ifMatch, existing?.etag)
    }
  }

  #conflict(
    key: string,
    expected: string | undefined,
    got: string | undefined,
    cause?: unknown,
  ): VecsnapError {
    const message =
      expected === undefined
        ? `${this.url}/${key} exists already`
        : `${this.url}/${key} ${got === undefined ? "does not exist" : `has version ${got}`}, expected version ${expected}`
    return conflict(message, { key, expected, got }, cause)
  }

  #wrongLength(key: string, expected: number, got: number): VecsnapError {
    return corrupt(`${this.url}/${key}: expected ${expected} bytes, got ${got}`, { key, expected, got })
  }
}

interface S3Place {
  readonly Bucket: string
  readonly Key: string
}

type S3Request<T> = (client: S3Client, options: { abortSignal?: AbortSignal }) => Promise<T>

function isMissingObject(error: unknown): boolean {
  return isVecsnapError(error, "NotFound") && error.details.code !== "NoSuchBucket"
}

function infoOf(
  output: { readonly ETag?: string | undefined; readonly LastModified?: Date | undefined },
  size: number,
): ObjectInfo {
  return { size, etag: output.ETag ?? "", lastModified: output.LastModified ?? new Date(0) }
}

/**
 * The size of the whole object, if the answer is for a range that begins at `start`; not all servers respect
 * ranges.
 */
function sizeOfRange({ ContentRange }: GetObjectCommandOutput, start: number): number | undefined {
  const match = /^bytes (\d+)-\d+\/(\d+)$/.exec(ContentRange ?? "")
  return match !== null && Number(match[1]) === start ? Number(match[2]) : undefined
}

function bodyOf({ Body }: GetObjectCommandOutput): Readable {
  if (Body instanceof Readable) return Body
  throw unsupported("the store answered a read without a body")
}

/** Passes a body on until it has more bytes than it may have. */
const upTo = (maxBytes: number | undefined, place: string, key: string) =>
  async function* (body: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    let size = 0
    for await (const chunk of body) {
      size += chunk.length
      assertFits(maxBytes === undefined ? {} : { maxBytes }, size, place, key)
      yield chunk
    }
  }

/**
 * Reads a body to its end, unless `assertFits` throws for the size announced, or for what has arrived so far.
 */
async function collect(
  body: Readable,
  announced: number | undefined,
  assertFits: (sizeBytes: number) => void,
): Promise<Uint8Array> {
  const chunks: Uint8Array[] = []
  let size = 0
  try {
    assertFits(announced ?? 0)
    for await (const chunk of body as AsyncIterable<Uint8Array>) {
      chunks.push(chunk)
      size += chunk.length
      assertFits(size)
    }
  } finally {
    // What is not read would keep its connection.
    body.destroy()
  }
  const bytes = new Uint8Array(size)
  let filled = 0
  for (const chunk of chunks) {
    bytes.set(chunk, filled)
    filled += chunk.length
  }
  return bytes
}

/**
 * Protects a DeleteObjects request, which must carry a checksum, by the one that all stores know. By itself
 * the SDK sends one of 2025 only.
 */
function useContentMd5(command: DeleteObjectsCommand): void {
  command.middlewareStack.add(
    (next) => (args) => {
      const { headers, body } = args.request as { headers: Record<string, string>; body: string | Uint8Array }
      for (const name of Object.keys(headers)) {
        if (/^x-amz-(sdk-)?checksum-/i.test(name)) delete headers[name]
      }
      headers["content-md5"] = createHash("md5").update(body).digest("base64")
      return next(args)
    },
    // After the SDK has added its own.
    { step: "build", priority: "low", name: "useContentMd5" },
  )
}
