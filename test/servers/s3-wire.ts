/**
 * How S3 looks on the wire, as far as our in-process server speaks it: names of operations, errors, XML, byte
 * ranges, checksums and the `aws-chunked` body encoding. All pure.
 */
import { createHash } from "node:crypto"
import type { IncomingHttpHeaders } from "node:http"
import { crc32 } from "node:zlib"

/** An answer that S3 gives as an error document; thrown anywhere below the request handler. */
export class S3Error extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
  ) {
    super(message)
  }
}

export const notImplemented = (what: string) =>
  new S3Error(501, "NotImplemented", `${what} is not implemented by the in-process test server`)

/** What the server can do, by the names that the AWS SDK gives to commands. */
export type S3Operation =
  | "ListBuckets"
  | "CreateBucket"
  | "HeadBucket"
  | "DeleteBucket"
  | "ListObjectsV2"
  | "DeleteObjects"
  | "ListMultipartUploads"
  | "GetObject"
  | "HeadObject"
  | "PutObject"
  | "DeleteObject"
  | "CreateMultipartUpload"
  | "UploadPart"
  | "CompleteMultipartUpload"
  | "AbortMultipartUpload"
  | "ListParts"

/** Where a request goes: `/bucket/key?query`, path style. */
export interface Target {
  readonly bucket: string
  readonly key: string
  readonly query: URLSearchParams
}

/** Takes a request's URL apart by hand: `new URL` would fold `..` and `//`, which are ordinary parts of keys. */
export function parseTarget(url: string): Target {
  const mark = url.indexOf("?")
  const path = mark < 0 ? url : url.slice(0, mark)
  const query = new URLSearchParams(mark < 0 ? "" : url.slice(mark + 1))
  const slash = path.indexOf("/", 1)
  const decode = (text: string) => {
    try {
      return decodeURIComponent(text)
    } catch {
      throw new S3Error(400, "InvalidURI", `the path ${text} is not valid percent-encoded UTF-8`)
    }
  }
  return slash < 0
    ? { bucket: decode(path.slice(1)), key: "", query }
    : { bucket: decode(path.slice(1, slash)), key: decode(path.slice(slash + 1)), query }
}

// Query parameters that select one of the operations above or merely qualify it. Any other, such as `acl`, `tagging` or
// `versionId`, would select an operation that this server lacks; it must be refused rather than taken for another one.
const KNOWN_PARAMETERS = new Set([
  ...["x-id", "list-type", "prefix", "delimiter", "start-after", "continuation-token", "max-keys"],
  ...["encoding-type", "fetch-owner", "delete", "uploads", "uploadId", "partNumber", "max-parts"],
  ...["part-number-marker", "max-uploads"],
])

/** The operation that method, path and query select; throws `NotImplemented` for all others. */
export function operationOf(method: string, { bucket, key, query }: Target): S3Operation {
  const unknown = [...query.keys()].find((name) => !KNOWN_PARAMETERS.has(name) && !/^x-amz-/i.test(name))
  if (unknown !== undefined) throw notImplemented(`the parameter ${unknown}`)
  const table: Record<string, S3Operation | undefined> =
    bucket === ""
      ? { GET: "ListBuckets" }
      : key === ""
        ? {
            PUT: "CreateBucket",
            HEAD: "HeadBucket",
            DELETE: "DeleteBucket",
            ...(query.get("list-type") === "2" && { GET: "ListObjectsV2" }),
            ...(query.has("uploads") && { GET: "ListMultipartUploads" }),
            ...(query.has("delete") && { POST: "DeleteObjects" }),
          }
        : query.has("uploadId")
          ? {
              PUT: "UploadPart",
              POST: "CompleteMultipartUpload",
              DELETE: "AbortMultipartUpload",
              GET: "ListParts",
            }
          : {
              PUT: "PutObject",
              GET: "GetObject",
              HEAD: "HeadObject",
              DELETE: "DeleteObject",
              ...(query.has("uploads") && { POST: "CreateMultipartUpload" }),
            }
  const operation = table[method]
  if (operation === undefined) throw notImplemented(`${method} with the parameters (${query})`)
  return operation
}

/** Half-open byte range. */
export interface ByteRange {
  readonly start: number
  readonly end: number
}

/**
 * The bytes that a `Range` header selects of `size`; `undefined` means the whole object, also for a header of another
 * form, which HTTP says to ignore. Throws 416 for a range that starts past the end.
 */
export function parseRange(header: string | undefined, size: number): ByteRange | undefined {
  const match = /^bytes=(\d*)-(\d*)$/.exec(header ?? "")
  if (match === null) return undefined
  const [first, last] = [match[1]!, match[2]!]
  if (first === "" && last === "") return undefined
  const start = first === "" ? Math.max(0, size - Number(last)) : Number(first)
  const end = first === "" || last === "" ? size : Math.min(size, Number(last) + 1)
  if (first !== "" && last !== "" && Number(last) < start) return undefined
  if (start >= size) {
    throw new S3Error(
      416,
      "InvalidRange",
      `the range ${header} is not satisfiable: the object has ${size} bytes`,
    )
  }
  return { start, end }
}

// --- XML ---------------------------------------------------------------------------------------------------------

const ESCAPES: Record<string, string> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&apos;",
}

/** Text for an XML document. Control characters become references, as S3 writes them. */
export function escapeXml(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what has to be escaped
  return text.replace(/[&<>"'\u0000-\u001f]/g, (c) => ESCAPES[c] ?? `&#x${c.charCodeAt(0).toString(16)};`)
}

function unescapeXml(text: string): string {
  const named: Record<string, string> = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'" }
  return text.replace(/&(?:#x([0-9a-fA-F]+)|#(\d+)|(\w+));/g, (whole, hex, decimal, name) => {
    if (hex !== undefined) return String.fromCodePoint(Number.parseInt(hex, 16))
    if (decimal !== undefined) return String.fromCodePoint(Number(decimal))
    return named[name] ?? whole
  })
}

/** Children by name; a list makes repeated elements, `undefined` none. */
export type XmlNode =
  | string
  | number
  | boolean
  | Date
  | { readonly [name: string]: XmlNode | XmlNode[] | undefined }

function renderXml(name: string, node: XmlNode | XmlNode[] | undefined): string {
  if (node === undefined) return ""
  if (Array.isArray(node)) return node.map((one) => renderXml(name, one)).join("")
  if (node instanceof Date) return `<${name}>${node.toISOString()}</${name}>`
  if (typeof node !== "object") return `<${name}>${escapeXml(String(node))}</${name}>`
  const children = Object.entries(node).map(([child, value]) => renderXml(child, value))
  return `<${name}>${children.join("")}</${name}>`
}

export const xmlDocument = (root: string, node: XmlNode) =>
  Buffer.from(`<?xml version="1.0" encoding="UTF-8"?>\n${renderXml(root, node)}`)

/** The inner XML of each `<name>` element. Enough for the flat documents that clients of S3 send. */
export function xmlElements(xml: string, name: string): string[] {
  return [...xml.matchAll(new RegExp(`<${name}(?:\\s[^>]*)?>([\\s\\S]*?)</${name}>`, "g"))].map((m) => m[1]!)
}

/** The text of the first `<name>` element. */
export function xmlText(xml: string, name: string): string | undefined {
  const [first] = xmlElements(xml, name)
  return first === undefined ? undefined : unescapeXml(first)
}

// --- Bodies and their checksums ----------------------------------------------------------------------------------

export const md5Hex = (bytes: Uint8Array) => createHash("md5").update(bytes).digest("hex")

const CHECKSUMS: Record<string, (body: Buffer) => string> = {
  crc32: (body) => {
    const digest = Buffer.alloc(4)
    digest.writeUInt32BE(crc32(body))
    return digest.toString("base64")
  },
  sha1: (body) => createHash("sha1").update(body).digest("base64"),
  sha256: (body) => createHash("sha256").update(body).digest("base64"),
}

/** A request's content, decoded and verified. */
export interface VerifiedBody {
  readonly content: Buffer
  /** The `x-amz-checksum-*` headers (or trailers) that came with it and were right, by name. */
  readonly checksums: Readonly<Record<string, string>>
  /** Whether `Content-MD5` or an `x-amz-checksum-*` vouched for it. */
  readonly vouched: boolean
}

/** Decodes `aws-chunked` and verifies every length and checksum that came with a body; throws 400 when one is wrong. */
export function verifyBody(raw: Buffer, headers: IncomingHttpHeaders): VerifiedBody {
  const header = (name: string) => headers[name] as string | undefined
  const declared = header("x-amz-content-sha256")
  const chunked = declared?.startsWith("STREAMING-") || header("content-encoding")?.includes("aws-chunked")
  const { content, trailers } = chunked ? decodeAwsChunked(raw) : { content: raw, trailers: {} }

  const decodedLength = header("x-amz-decoded-content-length")
  if (chunked && decodedLength !== undefined && Number(decodedLength) !== content.length) {
    throw new S3Error(400, "IncompleteBody", `expected ${decodedLength} decoded bytes, got ${content.length}`)
  }
  if (declared !== undefined && /^[0-9a-f]{64}$/i.test(declared)) {
    const actual = createHash("sha256").update(raw).digest("hex")
    if (actual !== declared.toLowerCase()) {
      throw new S3Error(
        400,
        "XAmzContentSHA256Mismatch",
        `x-amz-content-sha256 is ${declared}, the body's SHA-256 is ${actual}`,
      )
    }
  }
  const md5 = header("content-md5")
  if (md5 !== undefined)
    assertChecksum("Content-MD5", md5, createHash("md5").update(content).digest("base64"))

  const checksums: Record<string, string> = {}
  for (const [name, value] of Object.entries({ ...headers, ...trailers })) {
    const algorithm = /^x-amz-checksum-(crc32|crc32c|crc64nvme|sha1|sha256)$/.exec(name)?.[1]
    if (algorithm === undefined || typeof value !== "string") continue
    const compute = CHECKSUMS[algorithm]
    if (compute === undefined) throw notImplemented(name)
    assertChecksum(name, value, compute(content))
    checksums[name] = value
  }
  const promised = header("x-amz-trailer")?.toLowerCase()
  if (promised?.startsWith("x-amz-checksum-") && checksums[promised] === undefined) {
    throw new S3Error(400, "MalformedTrailerError", `the promised trailer ${promised} did not come`)
  }
  return { content, checksums, vouched: md5 !== undefined || Object.keys(checksums).length > 0 }
}

function assertChecksum(name: string, expected: string, actual: string): void {
  if (expected !== actual) {
    throw new S3Error(400, "BadDigest", `${name} is ${expected}, of the content received it is ${actual}`)
  }
}

/**
 * Decodes `aws-chunked`: `<hex size>[;chunk-signature=…]\r\n<bytes>\r\n` until a chunk of size 0, then trailers, then
 * an empty line. Signatures of chunks are not verified.
 */
export function decodeAwsChunked(raw: Buffer): { content: Buffer; trailers: Record<string, string> } {
  const malformed = (why: string) => new S3Error(400, "IncompleteBody", `aws-chunked: ${why}`)
  let at = 0
  const line = () => {
    const end = raw.indexOf("\r\n", at)
    if (end < 0) throw malformed(`no end of line after byte ${at}`)
    const text = raw.toString("latin1", at, end)
    at = end + 2
    return text
  }
  const chunks: Buffer[] = []
  for (;;) {
    const head = line()
    const digits = /^([0-9a-fA-F]+)(;.*)?$/.exec(head)?.[1]
    if (digits === undefined) throw malformed(`expected a chunk size, got ${JSON.stringify(head)}`)
    const size = Number.parseInt(digits, 16)
    if (size === 0) break
    if (at + size + 2 > raw.length) throw malformed(`a chunk of ${size} bytes is cut short`)
    chunks.push(raw.subarray(at, at + size))
    at += size
    if (line() !== "") throw malformed(`no line end after a chunk of ${size} bytes`)
  }
  const trailers: Record<string, string> = {}
  while (at < raw.length) {
    const text = line()
    if (text === "") break
    const colon = text.indexOf(":")
    if (colon < 0) throw malformed(`expected a trailer, got ${JSON.stringify(text)}`)
    trailers[text.slice(0, colon).trim().toLowerCase()] = text.slice(colon + 1).trim()
  }
  return { content: Buffer.concat(chunks), trailers }
}
