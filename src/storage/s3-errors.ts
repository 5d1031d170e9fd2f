import {
  aborted,
  conflict,
  corrupt,
  type ErrorTag,
  invalidInput,
  isVecsnapError,
  notFound,
  unavailable,
  unsupported,
  type VecsnapError,
} from "../errors.js"
import { shortened } from "../wording.js"
import { errorCode } from "./files.js"
import { adviceFor } from "./s3-advice.js"
import { type Exchange, exchangeOf } from "./s3-exchange.js"

/** What was asked of the store, for the message. */
export interface S3Request {
  /** "s3://bucket/prefix" or "s3://bucket/prefix/key". */
  readonly url: string
  readonly bucket: string
  /** The operation by the name under which it is permitted, as in "s3:GetObject". */
  readonly action: string
  /** Whether other credentials may be found if they are looked for again. Default false. */
  readonly renewable?: boolean
}

/** What the SDK says of an answer that is not a success. All of it optional, as stores differ. */
interface Failure {
  readonly status: number | undefined
  /** "NoSuchKey", "SlowDown" ...; for failures of the connection the name or code of the error. */
  readonly code: string
  readonly message: string
  readonly exchange: Exchange | undefined
}

// Worth another try although the status is not 429 or 5xx. 409 is AWS' answer to racing conditional writes; a
// body that arrived damaged is sent again; an upload that is gone is started again.
const PASSING_CODES = new Set([
  "ConditionalRequestConflict",
  "OperationAborted",
  "RequestTimeout",
  "BadDigest",
  "XAmzContentSHA256Mismatch",
  "IncompleteBody",
  "NoSuchUpload",
])

// An answer to HEAD has no body that could hold a code; the SDK makes up the second and the third.
const MISSING_OBJECT_CODES = new Set(["NoSuchKey", "NotFound", "Unknown", "UnknownError"])

const STORE_FAULTS_OF_TLS = /CERT|SELF_SIGNED|UNABLE_TO_VERIFY|SSL/

/**
 * An error of the AWS SDK as one of ours, by what the caller does next. `NotFound` means the bucket, or an
 * object if `details.code` is not "NoSuchBucket".
 */
export function s3Error(request: S3Request, error: unknown, signal?: AbortSignal): VecsnapError {
  if (isVecsnapError(error)) return error
  if (signal?.aborted) {
    return aborted(`${request.action} of ${request.url} was aborted`, {}, signal.reason)
  }
  const failure = failureOf(error)
  const { status, code, message } = failure
  const { tag, lasting, recovery, advice } = classify(failure, request)
  const answer = status === undefined ? code : `${code} (HTTP ${status})`
  const said = message === "" || message === code || message === "UnknownError" ? "" : `: ${message}`
  const asked = { url: request.url, bucket: request.bucket, action: request.action }
  const marks = { ...(lasting && { lasting }), ...(recovery !== undefined && { recovery }) }
  const details = { ...asked, status, code, ...marks }
  return RAISE[tag](
    `${request.action} of ${request.url} failed with ${answer}${said}${advice}`,
    details,
    bare(error),
  )
}

/** Whether it was the connection that failed, and no answer came. */
export function isConnectionFailure(error: VecsnapError): boolean {
  return error.tag === "Unavailable" && error.details.status === undefined
}

// The SDK's errors hold the whole exchange, request headers included, and so perhaps a session token.
function bare(error: unknown): unknown {
  if (!(error instanceof Error)) return error
  const copy = new Error(withoutCommand(error.message))
  copy.name = error.name
  if (error.stack !== undefined) copy.stack = error.stack.replace(error.message, copy.message)
  return copy
}

type Tag = Extract<
  ErrorTag,
  "Conflict" | "Corrupt" | "InvalidInput" | "NotFound" | "Unavailable" | "Unsupported"
>

const RAISE = {
  Conflict: conflict,
  Corrupt: corrupt,
  InvalidInput: invalidInput,
  NotFound: notFound,
  Unavailable: unavailable,
  Unsupported: unsupported,
}

interface Verdict {
  readonly tag: Tag
  readonly lasting?: true
  readonly advice: string
  readonly recovery?: "clock" | "credentials" | undefined
}

/**
 * What the store refuses is not wrong in what the caller of vecsnap asked for: it must be put right around
 * us.
 */
const LASTING = { tag: "Unavailable", lasting: true } as const

function classify(failure: Failure, { bucket, action, renewable = false }: S3Request): Verdict {
  const { status, code } = failure
  const known = adviceFor({ ...failure, bucket, action })
  if (known !== undefined) {
    const { passing, advice } = known
    const recovery = known.recovery === "credentials" && !renewable ? undefined : known.recovery
    if (passing) return { tag: "Unavailable", advice }
    if (status !== undefined && status < 300) return { tag: "Unsupported", advice }
    return { ...LASTING, advice, recovery }
  }
  if (PASSING_CODES.has(code)) return { tag: "Unavailable", advice: "" }
  if (code === "NoSuchBucket") return { tag: "NotFound", advice: `; create the bucket "${bucket}" first` }
  if (code === "CredentialsProviderError") {
    return { ...LASTING, advice: "; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile" }
  }
  switch (status) {
    case undefined:
      if (code === "InvalidSetting") return { tag: "InvalidInput", advice: "" }
      return STORE_FAULTS_OF_TLS.test(code) ? { ...LASTING, advice: "" } : { tag: "Unavailable", advice: "" }
    case 401:
    case 403:
      return {
        ...LASTING,
        advice: `; check the credentials, and that they allow ${action} in the bucket "${bucket}"`,
      }
    case 404:
      // Another code is about something else that does not exist, such as the user (versitygw).
      return MISSING_OBJECT_CODES.has(code) ? { tag: "NotFound", advice: "" } : { ...LASTING, advice: "" }
    case 405:
    case 501:
      return { tag: "Unsupported", advice: "; this store does not offer it" }
    case 408:
    case 429:
      return { tag: "Unavailable", advice: "" }
    case 412:
      return { tag: "Conflict", advice: "; the object has another version than expected" }
    case 416:
      return { tag: "Corrupt", advice: "; the object is shorter than expected" }
    default:
      if (status >= 500) return { tag: "Unavailable", advice: "" }
      // A success that the SDK could not read: whatever answered is not S3.
      if (status < 300) return { tag: "Unsupported", advice: "; the answer is not that of an S3 store" }
      return { ...LASTING, advice: "" }
  }
}

/** Of what a store says, which may be anything. */
const CODE_LENGTH = 100
const MESSAGE_LENGTH = 1000

function failureOf(error: unknown): Failure {
  if (!(error instanceof Error)) {
    return { status: undefined, code: "unknown error", message: String(error), exchange: undefined }
  }
  const { $metadata: metadata } = error as { readonly $metadata?: { readonly httpStatusCode?: number } }
  const code = error.name === "Error" ? (errorCode(error) ?? settingFault(error)) : error.name
  const message = code === "TimeoutError" ? silence(error.message) : withoutCommand(error.message)
  return {
    status: metadata?.httpStatusCode,
    code: shortened(code, CODE_LENGTH),
    message: shortened(message, MESSAGE_LENGTH),
    exchange: exchangeOf(error),
  }
}

/** What did not come in time, in the words of our options for the SDK's. */
function silence(message: string): string {
  const [ms] = /\d+(?= ms)/.exec(message) ?? []
  if (ms === undefined) return message
  if (message.includes("establish a connection")) return `no connection within ${ms} ms (connectTimeoutMs)`
  if (message.includes("inactivity")) return `the connection was silent for ${ms} ms (idleTimeoutMs)`
  return `no answer within ${ms} ms (firstByteTimeoutMs, idleTimeoutMs)`
}

// Of a program that was to give credentials, and failed, Node tells the command line and all that it printed.
const withoutCommand = (message: string): string =>
  message.replace(/Command failed:.*/s, "the credential_process of the profile failed")

// The SDK has no code for what is wrong with its settings.
function settingFault(error: Error): string {
  return /^(Region|Invalid (URL|endpoint)|Could not|The services section)/.test(error.message)
    ? "InvalidSetting"
    : "unknown error"
}
