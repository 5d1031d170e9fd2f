/** What the refusals of S3-compatible stores mean, each with what to do about it. Pure. */
import type { Exchange } from "./s3-exchange.js"

/** What was refused, and what the answer told beside. */
export interface Refusal {
  readonly status: number | undefined
  readonly code: string
  readonly message: string
  readonly exchange: Exchange | undefined
  /** As in "s3:GetObject". */
  readonly action: string
  readonly bucket: string
}

export interface Advice {
  /** To stand behind the message: "; " and what to do. */
  readonly advice: string
  /** Whether it passes by itself; else it stays until somebody puts it right. */
  readonly passing?: true
  /** What the store's client can put right by itself, so that the same call is tried again at once. */
  readonly recovery?: "clock" | "credentials"
}

/** S3 refuses what is 15 minutes off; this is less, since both times are of another moment. */
const REFUSED_SKEW_MS = 10 * 60_000

/** What SDK and stores call a 403 without a body, as answers to HEAD are. */
const NAMELESS = new Set(["Forbidden", "403", "Unknown", "UnknownError", "UnrecognizedClientException"])

const EXPIRED = new Set(["ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"])
const QUOTA =
  /^(QuotaExceeded|ServiceQuotaExceeded|XMinio\w*QuotaExceeded|XMinioStorageFull|InsufficientCapacity|StorageCapExceeded|StorageFull)$/

/** What is known of a refusal; `undefined` if only its status says something. */
export function adviceFor(refusal: Refusal): Advice | undefined {
  const { status, code, message, exchange, action, bucket } = refusal
  const { skewMs, region, page = false } = exchange ?? {}
  if (code === "RequestTimeTooSkewed" || (status === 403 && NAMELESS.has(code) && isRefusedSkew(skewMs)))
    return { advice: clockAdvice(skewMs), recovery: "clock" }
  if (status === 407)
    return {
      advice: "; the proxy asks who you are: put user and password into its URL, http://user:password@proxy",
    }
  if (page && status !== undefined) return pageAdvice(status)
  if (EXPIRED.has(code)) {
    const renew = "the session token has expired: renew the credentials, as `aws sso login` does"
    return { advice: `; ${renew}`, recovery: "credentials" }
  }
  if (code === "InvalidToken") return { advice: "; the session token does not belong to the access key" }
  if (isRedirect(status, code)) {
    const there = region === undefined ? "is in another region" : `is in the region ${region}`
    const how = `set the option region${region === undefined ? "" : ` to "${region}"`}, or AWS_REGION`
    return { advice: `; the bucket "${bucket}" ${there}: ${how}` }
  }
  // As AWS has it, and MinIO: "kms:KeyNotFound".
  if (/^kms[.:]/i.test(code) || /\bkms:\w+/i.test(message)) return kmsAdvice(code)
  if (QUOTA.test(code) || status === 507) {
    return {
      advice: `; the store or the bucket "${bucket}" is full: make room (gc), or have its quota raised`,
    }
  }
  switch (code) {
    case "InvalidObjectState":
      return {
        advice:
          "; the object was moved to an archive (Glacier): restore it there, and exempt it from that rule",
      }
    case "InvalidStorageClass":
      return { advice: "; name a class that this store has by s3.storageClass, or none" }
    case "InvalidRequest":
      if (!/server.side encryption/i.test(message)) return undefined
      return {
        advice: `; it is encrypted by a customer's own key (SSE-C): give it by s3.encryption (VECSNAP_SSE_C_KEY)`,
      }
    case "InvalidAccessKeyId":
      return {
        advice:
          "; this store does not know the access key: is it of another account, or for another endpoint?",
      }
    case "SignatureDoesNotMatch":
      return {
        advice: "; the secret key is not that of the access key, or something in between changes requests",
      }
    case "AccessDenied":
      return { advice: `; the credentials do not allow ${action} in the bucket "${bucket}"` }
    default:
      return undefined
  }
}

const isRefusedSkew = (skewMs: number | undefined): boolean =>
  skewMs !== undefined && Math.abs(skewMs) > REFUSED_SKEW_MS

function clockAdvice(skewMs: number | undefined): string {
  if (skewMs === undefined) return "; set the clock of this machine"
  const minutes = Math.round(Math.abs(skewMs) / 60_000)
  return `; the clock of this machine is ${minutes} minutes ${skewMs > 0 ? "behind" : "ahead of"} the store's: set it`
}

function pageAdvice(status: number): Advice {
  const advice =
    "; the answer is a web page, not that of an S3 store: is it a proxy's, or is the endpoint a console's?"
  return status >= 500 || status === 429 ? { advice, passing: true } : { advice }
}

function kmsAdvice(code: string): Advice {
  if (code === "KMS.ThrottlingException") return { advice: "", passing: true }
  const needs = "reading needs kms:Decrypt, writing kms:GenerateDataKey and kms:Decrypt"
  return {
    advice: `; the key that encrypts the bucket (KMS) cannot be used: it must be enabled, and ${needs}`,
  }
}

const isRedirect = (status: number | undefined, code: string): boolean =>
  status === 301 ||
  status === 307 ||
  ["PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"].includes(code)
