/**
 * What an answer of a store told beside its error, which the AWS SDK's error does not say: whose clock is
 * off, where the bucket is, whether it was S3 at all that answered.
 */
import type { S3Client } from "@aws-sdk/client-s3"

export interface Exchange {
  /** How far the store's clock is ahead of the time that the request was signed with, in milliseconds. */
  readonly skewMs: number | undefined
  /** Where the bucket is, if the store says so. */
  readonly region: string | undefined
  /** Whether the answer is a page for people: a proxy's, a console's. */
  readonly page: boolean
}

/** What is known of the answer that made the SDK throw `error`; nothing if there was none. */
export function exchangeOf(error: unknown): Exchange | undefined {
  return error instanceof Error ? exchanges.get(error) : undefined
}

// The SDK's own error holds all of the exchange, and so does not leave this folder.
const exchanges = new WeakMap<Error, Exchange>()

type Headers = Readonly<Record<string, string>>

/** Keeps what {@link exchangeOf} tells, and hides in errors what the request said of the credentials. */
export function watchExchanges(client: S3Client): void {
  client.middlewareStack.add(
    (next) => async (args) => {
      try {
        return await next(args)
      } catch (error) {
        if (error instanceof Error) {
          const sent = headersOf(args.request)
          const { $response } = error as { readonly $response?: unknown }
          if ($response !== undefined) exchanges.set(error, exchange(sent, headersOf($response), error))
          hideIn(error, credentialsIn(sent))
        }
        throw error
      }
    },
    // Last of its step: after the request was signed, before it is sent and its answer read.
    { step: "finalizeRequest", priority: "low", name: "watchExchanges" },
  )
}

function exchange(sent: Headers, received: Headers, error: Error): Exchange {
  const { Region } = error as { readonly Region?: unknown }
  return {
    skewMs: skewMs(sent["x-amz-date"], received.date),
    region: received["x-amz-bucket-region"] ?? (typeof Region === "string" ? Region : undefined),
    page: /^text\/html\b/i.test(received["content-type"] ?? ""),
  }
}

/** From "20260131T235959Z", as requests are signed, and the date of an answer. */
function skewMs(signed: string | undefined, answered: string | undefined): number | undefined {
  const [, date, time] = /^(\d{8})T(\d{6})Z$/.exec(signed ?? "") ?? []
  if (date === undefined || time === undefined || answered === undefined) return undefined
  const [day, clock] = [date.replace(/(....)(..)(..)/, "$1-$2-$3"), time.replace(/(..)(..)(..)/, "$1:$2:$3")]
  const difference = Date.parse(answered) - Date.parse(`${day}T${clock}Z`)
  return Number.isNaN(difference) ? undefined : difference
}

function headersOf(message: unknown): Headers {
  const { headers = {} } = message as { readonly headers?: Headers }
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]))
}

/** A text that is shorter is no secret: it would be found in the words of any message. */
const SHORTEST_SECRET = 8

/**
 * What an answer may repeat: stores explain why a signature does not match, and proxies print the whole
 * request. (The secret key is in no request.)
 */
function credentialsIn(sent: Headers): readonly string[] {
  const authorization = sent.authorization ?? ""
  const accessKey = /Credential=([^/,]+)/.exec(authorization)?.[1] ?? ""
  const signature = /Signature=(\w+)/.exec(authorization)?.[1] ?? ""
  const values = [
    sent["x-amz-security-token"] ?? "",
    sent["x-amz-server-side-encryption-customer-key"] ?? "",
    accessKey,
    signature,
  ]
  return values.filter((value) => value.length >= SHORTEST_SECRET)
}

function hideIn(error: Error, values: readonly string[]): void {
  const hidden = (text: string): string => values.reduce((rest, value) => rest.replaceAll(value, "…"), text)
  const texts = error as unknown as Record<string, unknown>
  // The SDK takes the name from what the store says is the code. Its own names stay where there is nothing to
  // hide.
  for (const property of ["message", "stack", "name", "code", "Code"]) {
    const text = texts[property]
    if (typeof text === "string" && hidden(text) !== text) texts[property] = hidden(text)
  }
}
