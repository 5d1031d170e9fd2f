/**
 * The content of one bucket of the in-process S3 server, in memory. Every method is synchronous, so in Node
 * each is atomic: a precondition is checked and the write applied with nothing in between.
 */
import { createHash, randomUUID } from "node:crypto"
import { md5Hex, S3Error, type VerifiedBody } from "./s3-wire.js"

export interface BucketObject {
  readonly key: string
  readonly content: Buffer
  /** As sent to clients, in double quotes. */
  readonly etag: string
  readonly lastModified: Date
  /** Headers given with the write and returned with every read: content type, metadata, checksums. */
  readonly headers: Readonly<Record<string, string>>
}

/** As the headers of the same names say it; `undefined` where absent. */
export interface Preconditions {
  readonly ifMatch?: string | undefined
  readonly ifNoneMatch?: string | undefined
}

export interface UploadedPart {
  readonly number: number
  readonly content: Buffer
  readonly etag: string
  readonly checksums: Readonly<Record<string, string>>
  readonly lastModified: Date
}

interface Upload {
  readonly id: string
  readonly key: string
  readonly initiated: Date
  readonly headers: Readonly<Record<string, string>>
  readonly parts: Map<number, UploadedPart>
}

/** A part as named by the client that completes an upload. */
export interface NamedPart {
  readonly number: number
  readonly etag: string
}

export interface ListQuery {
  readonly prefix: string
  readonly delimiter: string
  readonly startAfter: string
  readonly continuationToken: string | undefined
  readonly maxKeys: number
}

export interface ListPage {
  readonly objects: readonly BucketObject[]
  readonly commonPrefixes: readonly string[]
  /** Present when there is more. */
  readonly nextToken: string | undefined
}

/** S3's smallest part, the last one excepted. */
export const MIN_PART_BYTES = 5 * 1024 * 1024

// Clients send ETags with quotes, some without; S3 takes both.
const sameEtag = (a: string, b: string) => a.replaceAll('"', "") === b.replaceAll('"', "")

const preconditionFailed = (name: string) =>
  new S3Error(412, "PreconditionFailed", `at least one of the preconditions did not hold: ${name}`)

const noSuchKey = (key: string) => new S3Error(404, "NoSuchKey", `the key ${key} does not exist`)

export class Bucket {
  readonly #now: () => Date
  readonly created: Date
  readonly #objects = new Map<string, BucketObject>()
  readonly #uploads = new Map<string, Upload>()

  constructor(now: () => Date = () => new Date()) {
    this.#now = now
    this.created = now()
  }

  get isEmpty(): boolean {
    return this.#objects.size === 0
  }

  get(key: string): BucketObject {
    const object = this.#objects.get(key)
    if (object === undefined) throw noSuchKey(key)
    return object
  }

  put(
    key: string,
    body: VerifiedBody,
    headers: Record<string, string>,
    conditions: Preconditions,
  ): BucketObject {
    this.#assertWritable(key, conditions)
    const etag = `"${md5Hex(body.content)}"`
    return this.#store(key, body.content, etag, { ...headers, ...body.checksums })
  }

  delete(key: string): void {
    this.#objects.delete(key)
  }

  createUpload(key: string, headers: Record<string, string>): string {
    const id = randomUUID()
    this.#uploads.set(id, { id, key, initiated: this.#now(), headers, parts: new Map() })
    return id
  }

  putPart(key: string, uploadId: string, number: number, body: VerifiedBody): UploadedPart {
    const upload = this.#upload(key, uploadId)
    if (!(Number.isInteger(number) && number >= 1 && number <= 10_000)) {
      throw new S3Error(400, "InvalidArgument", `part numbers are 1 to 10000, got ${number}`)
    }
    const part = {
      number,
      content: body.content,
      etag: `"${md5Hex(body.content)}"`,
      checksums: body.checksums,
      lastModified: this.#now(),
    }
    upload.parts.set(number, part)
    return part
  }

  parts(key: string, uploadId: string): UploadedPart[] {
    return [...this.#upload(key, uploadId).parts.values()].sort((a, b) => a.number - b.number)
  }

  completeUpload(
    key: string,
    uploadId: string,
    named: readonly NamedPart[],
    conditions: Preconditions,
  ): BucketObject {
    const upload = this.#upload(key, uploadId)
    const unordered = named.find(({ number }, index) => index > 0 && number <= named[index - 1]!.number)
    if (unordered !== undefined) {
      throw new S3Error(
        400,
        "InvalidPartOrder",
        `part ${unordered.number} comes after one of the same or a higher number`,
      )
    }
    const parts = named.map(({ number, etag }, index) => {
      const part = upload.parts.get(number)
      if (part === undefined || !sameEtag(part.etag, etag)) {
        throw new S3Error(400, "InvalidPart", `part ${number} with ETag ${etag} was not uploaded`)
      }
      if (index < named.length - 1 && part.content.length < MIN_PART_BYTES) {
        const got = `part ${number} has ${part.content.length} bytes`
        throw new S3Error(
          400,
          "EntityTooSmall",
          `all parts but the last have ${MIN_PART_BYTES} bytes or more, ${got}`,
        )
      }
      return part
    })
    if (parts.length === 0)
      throw new S3Error(400, "MalformedXML", "an upload is completed with one part or more")
    this.#assertWritable(key, conditions)
    const digests = createHash("md5")
    for (const part of parts) digests.update(Buffer.from(part.etag.slice(1, -1), "hex"))
    const etag = `"${digests.digest("hex")}-${parts.length}"`
    this.#uploads.delete(uploadId)
    const content = Buffer.concat(parts.map((part) => part.content))
    return this.#store(key, content, etag, upload.headers)
  }

  abortUpload(key: string, uploadId: string): void {
    this.#uploads.delete(this.#upload(key, uploadId).id)
  }

  uploads(prefix: string): Pick<Upload, "id" | "key" | "initiated">[] {
    return [...this.#uploads.values()]
      .filter((upload) => upload.key.startsWith(prefix))
      .sort((a, b) => compareKeys(a.key, b.key))
  }

  /**
   * A page of ListObjectsV2: keys by their UTF-8 bytes, those that share a part up to the delimiter folded
   * into one.
   */
  list({ prefix, delimiter, startAfter, continuationToken, maxKeys }: ListQuery): ListPage {
    const after = continuationToken === undefined ? startAfter : decodeToken(continuationToken)
    const objects: BucketObject[] = []
    const commonPrefixes: string[] = []
    // The last entry of the page, a key or a common prefix: the next page starts after it.
    let last = ""
    for (const key of [...this.#objects.keys()].filter((k) => k.startsWith(prefix)).sort(compareKeys)) {
      const cut = delimiter === "" ? -1 : key.indexOf(delimiter, prefix.length)
      const entry = cut < 0 ? key : key.slice(0, cut + delimiter.length)
      if (cut >= 0 && entry === commonPrefixes.at(-1)) continue
      // start-after is compared with keys; a token may name a common prefix, and then passes all that it
      // stands for.
      if (after !== "" && compareKeys(continuationToken === undefined ? key : entry, after) <= 0) continue
      if (objects.length + commonPrefixes.length >= maxKeys) {
        // S3 answers max-keys=0 with an empty, complete page.
        return { objects, commonPrefixes, nextToken: maxKeys === 0 ? undefined : encodeToken(last) }
      }
      if (cut < 0) objects.push(this.#objects.get(key)!)
      else commonPrefixes.push(entry)
      last = entry
    }
    return { objects, commonPrefixes, nextToken: undefined }
  }

  #store(
    key: string,
    content: Buffer,
    etag: string,
    headers: Readonly<Record<string, string>>,
  ): BucketObject {
    const object = { key, content, etag, lastModified: this.#now(), headers }
    this.#objects.set(key, object)
    return object
  }

  #assertWritable(key: string, { ifMatch, ifNoneMatch }: Preconditions): void {
    const existing = this.#objects.get(key)
    if (ifNoneMatch !== undefined) {
      if (ifNoneMatch !== "*") throw new S3Error(501, "NotImplemented", "writes take If-None-Match: * only")
      if (existing !== undefined) throw preconditionFailed("If-None-Match")
    }
    if (ifMatch !== undefined) {
      if (existing === undefined) throw noSuchKey(key)
      if (!sameEtag(existing.etag, ifMatch)) throw preconditionFailed("If-Match")
    }
  }

  #upload(key: string, uploadId: string): Upload {
    const upload = this.#uploads.get(uploadId)
    if (upload === undefined || upload.key !== key) {
      throw new S3Error(404, "NoSuchUpload", `the upload ${uploadId} of ${key} does not exist`)
    }
    return upload
  }
}

/** How a conditional read ends: 200 or 206 as usual, or 304 without a body. Throws 412. */
export function isNotModified(object: BucketObject, { ifMatch, ifNoneMatch }: Preconditions): boolean {
  const matches = (header: string) =>
    header.split(",").some((etag) => etag.trim() === "*" || sameEtag(etag.trim(), object.etag))
  if (ifMatch !== undefined && !matches(ifMatch)) throw preconditionFailed("If-Match")
  return ifNoneMatch !== undefined && matches(ifNoneMatch)
}

function compareKeys(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b))
}

const encodeToken = (last: string) => Buffer.from(`after:${last}`).toString("base64url")

function decodeToken(token: string): string {
  const text = Buffer.from(token, "base64url").toString()
  if (!text.startsWith("after:")) {
    throw new S3Error(400, "InvalidArgument", `the continuation token ${token} is not one of this server`)
  }
  return text.slice("after:".length)
}
