/**
 * A small S3 server on `node:http`, in this process, on loopback and a free port, all in memory.
 *
 * It does what vecsnap and its tests ask of S3, strictly: buckets by path style, objects with conditional
 * reads and writes, ranges, listing in byte order with paging, multipart uploads, batch deletes, and
 * verification of every checksum sent, plain or as the trailer of an `aws-chunked` body. What it lacks
 * (versions, ACLs, tags, copies, CRC-32C, …) is refused with 501, never ignored. Signatures are not verified;
 * with `accessKeyId` set, the key named in a request is compared. It records every request and commits faults
 * on demand, so tests can count and provoke.
 */
import { randomUUID } from "node:crypto"
import { createServer, type IncomingMessage, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import { setTimeout as sleep } from "node:timers/promises"
import { Bucket, type BucketObject, isNotModified, type NamedPart, type Preconditions } from "./s3-bucket.js"
import {
  FAULT_CODES,
  type Fault,
  type FaultMatch,
  FaultPlan,
  type RequestFacts,
  spoilBody,
} from "./s3-faults.js"
import {
  notImplemented,
  operationOf,
  parseRange,
  parseTarget,
  S3Error,
  type S3Operation,
  type Target,
  type VerifiedBody,
  verifyBody,
  type XmlNode,
  xmlDocument,
  xmlElements,
  xmlText,
} from "./s3-wire.js"

export type { Fault, FaultMatch, RequestFacts } from "./s3-faults.js"
export type { S3Operation } from "./s3-wire.js"

export interface S3ServerOptions {
  /** Buckets that exist from the start. Default none. */
  readonly buckets?: readonly string[]
  /** The only access key that is let in. Default: any, and requests without one. */
  readonly accessKeyId?: string
  /**
   * How far the server's clock is ahead of this machine's. Default 0. Requests signed 15 minutes off are
   * refused.
   */
  readonly clockAheadMs?: number
}

/** A request as the server saw it; complete before the client has its reply. */
export interface RecordedRequest extends RequestFacts {
  /** Of the reply; 0 while there is none, and for ever when the connection was reset before one. */
  readonly status: number
  /** Bytes of the request's body, as transferred. */
  readonly bytesIn: number
  /** Bytes of the reply's body that were sent. */
  readonly bytesOut: number
  /** The fault committed on this request. */
  readonly fault: Fault["do"] | undefined
}

export interface S3Server {
  /** `http://127.0.0.1:<port>` */
  readonly endpoint: string
  /** All requests since the start, by arrival. Set its length to 0 to start afresh. */
  readonly requests: RecordedRequest[]
  /** Commits `fault` on the next `times` requests (default 1) that match. */
  fault(match: FaultMatch, fault: Fault, times?: number): void
  /** Forgets the faults not committed yet. */
  clearFaults(): void
  /** Ends all connections and the server. Idempotent. */
  close(): Promise<void>
}

/** Starts a server; see the top of this file. */
export async function startS3Server(options: S3ServerOptions = {}): Promise<S3Server> {
  const now = () => new Date(Date.now() + (options.clockAheadMs ?? 0))
  const state: State = {
    buckets: new Map((options.buckets ?? []).map((name) => [name, new Bucket(now)])),
    now,
    accessKeyId: options.accessKeyId,
    faults: new FaultPlan(),
    requests: [],
  }
  const server = createServer((request, response) => {
    void answer(state, request, response)
  })
  // A client that stops in the middle of a request must not keep a test waiting, nor a slow one be cut off.
  server.requestTimeout = 0
  // Nor is a connection ended at the moment when it is used again, as happens after Node's five seconds.
  server.keepAliveTimeout = 600_000
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject)
    server.listen(0, "127.0.0.1", resolve)
  })
  let closing: Promise<void> | undefined
  return {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests: state.requests,
    fault: (match, fault, times = 1) => state.faults.add(match, fault, times),
    clearFaults: () => state.faults.clear(),
    close: () => {
      closing ??= new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      })
      return closing
    },
  }
}

interface State {
  readonly buckets: Map<string, Bucket>
  readonly now: () => Date
  readonly accessKeyId: string | undefined
  readonly faults: FaultPlan
  readonly requests: RecordedRequest[]
}

const RESET_AFTER_MS = 20

type Mutable<T> = { -readonly [K in keyof T]: T[K] }

interface Reply {
  readonly status: number
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: Buffer
  /** For replies to HEAD, which announce a body and send none. */
  readonly contentLength?: number
}

/** Serves one request: matches a fault, reads and verifies the body, does what was asked, replies. */
async function answer(state: State, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const record = newRecord(request)
  state.requests.push(record)
  let fault: Fault | undefined
  let reply: Reply
  try {
    const target = parseTarget(request.url!)
    const operation = operationOf(request.method!, target)
    Object.assign(record, { operation, bucket: target.bucket, key: target.key })
    fault = state.faults.take(record)
    record.fault = fault?.do
    if (fault?.do === "reset-before") return void request.socket.resetAndDestroy()
    if (fault?.do === "stall" && fault.at === "answer") return
    if (fault?.do === "delay" && !(await waitUnlessGone(request, fault.ms))) return
    const raw = await readBody(request)
    if (raw === undefined) return
    record.bytesIn = raw.length
    if (fault?.do === "status") {
      const code = fault.code ?? FAULT_CODES[fault.status]!
      throw new S3Error(fault.status, code, "injected by the test")
    }
    assertAccess(state, request, target)
    assertClock(state, request)
    assertLength(request)
    const body = verifyBody(raw, request.headers)
    reply = HANDLERS[operation]({ state, target, request, body, fault })
  } catch (error) {
    reply = errorReply(error, request.url!)
  }
  if (fault?.do === "reset-after") return void request.socket.resetAndDestroy()
  response.setHeader("date", state.now().toUTCString())
  send(request, response, reply, fault, record)
}

function newRecord(request: IncomingMessage): Mutable<RecordedRequest> {
  return {
    operation: "ListBuckets",
    method: request.method!,
    bucket: "",
    key: "",
    range: request.headers.range,
    status: 0,
    bytesIn: 0,
    bytesOut: 0,
    fault: undefined,
  }
}

/** Whether the client was still there after the wait. */
async function waitUnlessGone(request: IncomingMessage, ms: number): Promise<boolean> {
  const gone = new AbortController()
  const leave = () => gone.abort()
  request.socket.once("close", leave)
  try {
    await sleep(ms, undefined, { signal: gone.signal })
    return true
  } catch {
    return false
  } finally {
    request.socket.off("close", leave)
  }
}

/** The body as transferred, or `undefined` when the client left before its end. */
async function readBody(request: IncomingMessage): Promise<Buffer | undefined> {
  const chunks: Buffer[] = []
  try {
    for await (const chunk of request) chunks.push(chunk as Buffer)
  } catch {
    return undefined
  }
  return request.complete ? Buffer.concat(chunks) : undefined
}

function assertAccess({ accessKeyId }: State, request: IncomingMessage, { query }: Target): void {
  if (accessKeyId === undefined) return
  const signed = /Credential=([^/,]+)\//.exec(request.headers.authorization ?? "")?.[1]
  const given = signed ?? query.get("X-Amz-Credential")?.split("/")[0]
  if (given === undefined) throw new S3Error(403, "AccessDenied", "requests without credentials are refused")
  if (given !== accessKeyId) {
    throw new S3Error(403, "InvalidAccessKeyId", "the access key is not one of this server")
  }
}

const TOLERATED_SKEW_MS = 15 * 60_000

function assertClock({ now }: State, { headers }: IncomingMessage): void {
  const [, ...parts] = /^(....)(..)(..)T(..)(..)(..)Z$/.exec(String(headers["x-amz-date"])) ?? []
  if (parts.length === 0) return
  const [year, month, ...rest] = parts.map(Number) as [number, number, number, number, number, number]
  if (Math.abs(Date.UTC(year, month - 1, ...rest) - now().getTime()) <= TOLERATED_SKEW_MS) return
  throw new S3Error(403, "RequestTimeTooSkewed", "the request's time and the server's are too far apart")
}

// As S3 does: a body whose length nobody announced is refused rather than measured.
function assertLength({ method, headers }: IncomingMessage): void {
  const announced = headers["content-length"] ?? headers["x-amz-decoded-content-length"]
  if (method === "PUT" && headers["transfer-encoding"] !== undefined && announced === undefined) {
    throw new S3Error(411, "MissingContentLength", "the length of the body must be announced")
  }
}

function errorReply(error: unknown, resource: string): Reply {
  const known =
    error instanceof S3Error ? error : new S3Error(500, "InternalError", `the test server failed: ${error}`)
  return {
    status: known.status,
    ...xml("Error", {
      Code: known.code,
      Message: known.message,
      Resource: resource,
      RequestId: randomUUID(),
    }),
  }
}

function send(
  request: IncomingMessage,
  response: ServerResponse,
  reply: Reply,
  fault: Fault | undefined,
  record: Mutable<RecordedRequest>,
): void {
  const isHead = request.method === "HEAD"
  const { announcedBytes, bytes, ending } = spoilBody(reply.body ?? Buffer.alloc(0), fault)
  const sent = isHead ? Buffer.alloc(0) : bytes
  record.status = reply.status
  record.bytesOut = sent.length
  response.statusCode = reply.status
  response.setHeader("x-amz-request-id", randomUUID())
  for (const [name, value] of Object.entries(reply.headers ?? {})) response.setHeader(name, value)
  if (reply.status !== 204 && reply.status !== 304) {
    response.setHeader("content-length", reply.contentLength ?? announcedBytes)
  }
  if (ending === "normal" || isHead) return void response.end(sent)
  // The headers and the half body have to be on their way before the connection goes.
  response.flushHeaders()
  response.write(sent, () => {
    if (ending === "none") return
    if (ending === "close") request.socket.end()
    // A reset discards what the client has not read yet; it gets a moment to read.
    else setTimeout(() => request.socket.resetAndDestroy(), RESET_AFTER_MS)
  })
}

// --- What each operation does
// --------------------------------------------------------------------------------------

interface Call {
  readonly state: State
  readonly target: Target
  readonly request: IncomingMessage
  readonly body: VerifiedBody
  readonly fault: Fault | undefined
}

const HANDLERS: Readonly<Record<S3Operation, (call: Call) => Reply>> = {
  ListBuckets: ({ state }) => {
    const buckets = [...state.buckets].map(([Name, { created }]) => ({ Name, CreationDate: created }))
    return ok(xml("ListAllMyBucketsResult", { Buckets: { Bucket: buckets } }))
  },

  CreateBucket: ({ state, target }) => {
    if (state.buckets.has(target.bucket)) {
      throw new S3Error(409, "BucketAlreadyOwnedByYou", `the bucket ${target.bucket} exists`)
    }
    state.buckets.set(target.bucket, new Bucket(state.now))
    return ok({ headers: { location: `/${target.bucket}` } })
  },

  HeadBucket: (call) => {
    bucketOf(call)
    return ok({})
  },

  DeleteBucket: (call) => {
    if (!bucketOf(call).isEmpty) {
      throw new S3Error(409, "BucketNotEmpty", `the bucket ${call.target.bucket} has objects`)
    }
    call.state.buckets.delete(call.target.bucket)
    return { status: 204 }
  },

  ListObjectsV2: (call) => {
    const { query, bucket } = call.target
    const prefix = query.get("prefix") ?? ""
    const delimiter = query.get("delimiter") ?? ""
    const startAfter = query.get("start-after") ?? ""
    const continuationToken = query.get("continuation-token") ?? undefined
    const maxKeys = Math.min(1000, wholeNumber(query.get("max-keys") ?? "1000", "max-keys"))
    const page = bucketOf(call).list({ prefix, delimiter, startAfter, continuationToken, maxKeys })
    const encodingType = query.get("encoding-type") ?? undefined
    if (encodingType !== undefined && encodingType !== "url")
      throw notImplemented(`encoding-type=${encodingType}`)
    const encode = encodingType === "url" ? encodeKey : (text: string) => text
    const contents = page.objects.map(({ key, content, etag, lastModified }) => ({
      Key: encode(key),
      LastModified: lastModified,
      ETag: etag,
      Size: content.length,
      StorageClass: "STANDARD",
    }))
    return ok(
      xml("ListBucketResult", {
        Name: bucket,
        Prefix: encode(prefix),
        ...(delimiter !== "" && { Delimiter: encode(delimiter) }),
        ...(startAfter !== "" && { StartAfter: encode(startAfter) }),
        ContinuationToken: continuationToken,
        NextContinuationToken: page.nextToken,
        KeyCount: contents.length + page.commonPrefixes.length,
        MaxKeys: maxKeys,
        EncodingType: encodingType,
        IsTruncated: page.nextToken !== undefined,
        Contents: contents,
        CommonPrefixes: page.commonPrefixes.map((one) => ({ Prefix: encode(one) })),
      }),
    )
  },

  DeleteObjects: (call) => {
    const bucket = bucketOf(call)
    if (!call.body.vouched) {
      const missing = "DeleteObjects needs Content-MD5 or x-amz-checksum-*"
      throw new S3Error(400, "InvalidRequest", missing)
    }
    const text = call.body.content.toString()
    const keys = xmlElements(text, "Object").map((object) => xmlText(object, "Key"))
    if (keys.length === 0 || keys.length > 1000 || keys.includes(undefined)) {
      throw new S3Error(400, "MalformedXML", `DeleteObjects takes 1 to 1000 keys, got ${keys.length}`)
    }
    const refused = (key: string) => call.fault?.do === "refuse-delete" && call.fault.keys.test(key)
    const [kept, removed]: [string[], string[]] = [[], []]
    for (const key of keys as string[]) (refused(key) ? kept : removed).push(key)
    for (const key of removed) bucket.delete(key)
    return ok(
      xml("DeleteResult", {
        Deleted: xmlText(text, "Quiet") === "true" ? [] : removed.map((Key) => ({ Key })),
        Error: kept.map((Key) => ({ Key, Code: "AccessDenied", Message: "injected by the test" })),
      }),
    )
  },

  ListMultipartUploads: (call) => {
    const prefix = call.target.query.get("prefix") ?? ""
    const uploads = bucketOf(call).uploads(prefix)
    return ok(
      xml("ListMultipartUploadsResult", {
        Bucket: call.target.bucket,
        Prefix: prefix,
        IsTruncated: false,
        Upload: uploads.map(({ key, id, initiated }) => ({ Key: key, UploadId: id, Initiated: initiated })),
      }),
    )
  },

  GetObject: (call) => {
    const object = bucketOf(call).get(call.target.key)
    if (isNotModified(object, preconditions(call))) return { status: 304, headers: { etag: object.etag } }
    const { content } = object
    const range =
      call.fault?.do === "ignore-range" ? undefined : parseRange(call.request.headers.range, content.length)
    if (range === undefined) return { status: 200, headers: objectHeaders(object, call), body: content }
    return {
      status: 206,
      headers: {
        ...objectHeaders(object, call),
        "content-range": `bytes ${range.start}-${range.end - 1}/${content.length}`,
      },
      body: content.subarray(range.start, range.end),
    }
  },

  // HEAD says what GET would, in headers alone.
  HeadObject: (call) => {
    const { body, ...reply } = HANDLERS.GetObject(call)
    return { ...reply, contentLength: body?.length ?? 0 }
  },

  PutObject: (call) => {
    const { key } = call.target
    if (Buffer.byteLength(key) > 1024) {
      throw new S3Error(400, "KeyTooLongError", `keys have 1024 bytes at most, got ${Buffer.byteLength(key)}`)
    }
    const { "x-amz-copy-source": copySource } = call.request.headers
    if (copySource !== undefined) throw notImplemented("x-amz-copy-source")
    const object = bucketOf(call).put(key, call.body, keptHeaders(call.request), preconditions(call))
    return ok({ headers: { etag: object.etag, ...call.body.checksums } })
  },

  DeleteObject: (call) => {
    if (call.request.headers["if-match"] !== undefined) throw notImplemented("If-Match on DeleteObject")
    bucketOf(call).delete(call.target.key)
    return { status: 204 }
  },

  CreateMultipartUpload: (call) => {
    const { bucket, key } = call.target
    const UploadId = bucketOf(call).createUpload(key, keptHeaders(call.request))
    return ok(xml("InitiateMultipartUploadResult", { Bucket: bucket, Key: key, UploadId }))
  },

  UploadPart: (call) => {
    const { key, query } = call.target
    if (call.request.headers["x-amz-copy-source"] !== undefined) throw notImplemented("x-amz-copy-source")
    const number = Number(query.get("partNumber"))
    const part = bucketOf(call).putPart(key, query.get("uploadId")!, number, call.body)
    return ok({ headers: { etag: part.etag, ...part.checksums } })
  },

  CompleteMultipartUpload: (call) => {
    const { bucket, key, query } = call.target
    const parts = xmlElements(call.body.content.toString(), "Part").map((part): NamedPart => {
      const [number, etag] = [xmlText(part, "PartNumber"), xmlText(part, "ETag")]
      if (number === undefined || etag === undefined) {
        throw new S3Error(400, "MalformedXML", "a part is named by PartNumber and ETag")
      }
      return { number: wholeNumber(number, "PartNumber"), etag }
    })
    const object = bucketOf(call).completeUpload(key, query.get("uploadId")!, parts, preconditions(call))
    return ok(
      xml("CompleteMultipartUploadResult", {
        Location: call.target.key,
        Bucket: bucket,
        Key: key,
        ETag: object.etag,
      }),
    )
  },

  AbortMultipartUpload: (call) => {
    bucketOf(call).abortUpload(call.target.key, call.target.query.get("uploadId")!)
    return { status: 204 }
  },

  ListParts: (call) => {
    const { bucket, key, query } = call.target
    const uploadId = query.get("uploadId")!
    const parts = bucketOf(call).parts(key, uploadId)
    return ok(
      xml("ListPartsResult", {
        Bucket: bucket,
        Key: key,
        UploadId: uploadId,
        IsTruncated: false,
        Part: parts.map(({ number, etag, content, lastModified }) => ({
          PartNumber: number,
          LastModified: lastModified,
          ETag: etag,
          Size: content.length,
        })),
      }),
    )
  },
}

const ok = (rest: Omit<Reply, "status">): Reply => ({ status: 200, ...rest })

function xml(root: string, node: XmlNode): Omit<Reply, "status"> {
  return { headers: { "content-type": "application/xml" }, body: xmlDocument(root, node) }
}

function bucketOf({ state, target }: Call): Bucket {
  const bucket = state.buckets.get(target.bucket)
  if (bucket === undefined) {
    throw new S3Error(404, "NoSuchBucket", `the bucket ${target.bucket} does not exist`)
  }
  return bucket
}

function preconditions({ request: { headers }, fault }: Call): Preconditions {
  const byDate = headers["if-modified-since"] ?? headers["if-unmodified-since"]
  if (byDate !== undefined) throw notImplemented("a precondition on the date")
  if (fault?.do === "ignore-preconditions") return {}
  return { ifMatch: headers["if-match"], ifNoneMatch: headers["if-none-match"] }
}

/** Headers of a write that come back with every read. */
function keptHeaders({ headers }: IncomingMessage): Record<string, string> {
  const kept: Record<string, string> = { "content-type": headers["content-type"] ?? "binary/octet-stream" }
  for (const name of ["cache-control", "content-disposition", "content-language"]) {
    const value = headers[name]
    if (typeof value === "string") kept[name] = value
  }
  // `aws-chunked` describes the transfer and is taken off; what else is there describes the content.
  const encodings = (headers["content-encoding"] ?? "").split(",").map((one) => one.trim())
  const lasting = encodings.filter((one) => one !== "" && one !== "aws-chunked")
  if (lasting.length > 0) kept["content-encoding"] = lasting.join(",")
  for (const [name, value] of Object.entries(headers)) {
    if (name.startsWith("x-amz-meta-") && typeof value === "string") kept[name] = value
  }
  return kept
}

function objectHeaders({ etag, lastModified, headers }: BucketObject, call: Call): Record<string, string> {
  const wantsChecksum =
    call.request.headers["x-amz-checksum-mode"] === "ENABLED" && call.request.headers.range === undefined
  const kept = Object.entries(headers).filter(
    ([name]) => wantsChecksum || !name.startsWith("x-amz-checksum-"),
  )
  return {
    ...Object.fromEntries(kept),
    etag,
    "last-modified": lastModified.toUTCString(),
    "accept-ranges": "bytes",
  }
}

/** As S3 does for encoding-type=url: everything but unreserved characters and the slash. */
function encodeKey(key: string): string {
  return encodeURIComponent(key).replace(/%2F/g, "/")
}

function wholeNumber(text: string, name: string): number {
  if (!/^\d{1,9}$/.test(text))
    throw new S3Error(400, "InvalidArgument", `${name} is a whole number, got ${text}`)
  return Number(text)
}
