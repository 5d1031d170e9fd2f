/**
 * The AWS SDK's client, set up for all S3-compatible stores.
 */
import { readFile } from "node:fs/promises"
import { rootCertificates } from "node:tls"
import { S3Client } from "@aws-sdk/client-s3"
import { loadConfig } from "@smithy/core/config"
import { withoutUndefined } from "../defined.js"
import { assertMilliseconds, invalidInput } from "../errors.js"
import { fileError } from "./files.js"
import { S3Connections } from "./s3-connections.js"
import { watchExchanges } from "./s3-exchange.js"
import type { RequestSettings, S3Encryption } from "./s3-parameters.js"

export interface S3Credentials {
  readonly accessKeyId: string
  readonly secretAccessKey: string
  readonly sessionToken?: string | undefined
  /** When they expire; default: not known. */
  readonly expiration?: Date | undefined
}

/**
 * How to reach an S3-compatible store. What is left out is looked for where the AWS SDK looks: environment
 * variables (`AWS_ACCESS_KEY_ID`, `AWS_REGION`, `AWS_ENDPOINT_URL_S3` ...), then the profile in `~/.aws`.
 */
export interface S3Settings extends RequestSettings {
  /** For stores other than AWS, as in "http://127.0.0.1:9000". */
  readonly endpoint?: string | undefined
  /** Default where none is found and there is an endpoint: "us-east-1", which most other stores accept. */
  readonly region?: string | undefined
  /**
   * Addresses as in "endpoint/bucket/key", not "bucket.endpoint/key". Default: whether there is an endpoint.
   */
  readonly forcePathStyle?: boolean | undefined
  /**
   * Or a function that gives them: asked when the first request is sent, when those it gave expire
   * (`expiration`), and when the store says that they have.
   */
  readonly credentials?: S3Credentials | (() => Promise<S3Credentials>) | undefined
  /**
   * Whether to send and check the checksums that S3 has added since 2025 ("when-supported", the SDK's own
   * default). Default "when-required": older stores refuse them. Bodies are protected either way, by the
   * signed SHA-256.
   */
  readonly requestChecksums?: "when-required" | "when-supported" | undefined
  /**
   * How the store is to encrypt what is written. Default: as the bucket's own rule says. With a key of your
   * own, reading needs it too.
   */
  readonly encryption?: S3Encryption | undefined
  /**
   * Of what is written, as in "STANDARD_IA". Default: the bucket's. An archive can't be read at once, so is
   * no choice.
   */
  readonly storageClass?: string | undefined
  /** Of what is written, as in "bucket-owner-full-control". Default: none. */
  readonly acl?: string | undefined
  /** Whether we, not the owner of the bucket, pay for requests. Default false. */
  readonly requesterPays?: boolean | undefined
  /** Headers of every request, which are signed with it. Default: none. */
  readonly headers?: Readonly<Record<string, string>> | undefined
  /**
   * The proxy on the way, as in "http://proxy:3128", with user name and password if it asks for them.
   * Default: as `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` say. `false`: none.
   */
  readonly proxy?: string | false | undefined
  /**
   * A PEM file of authorities to trust beside Node's own, for a store or a proxy with a private one. Default:
   * `AWS_CA_BUNDLE`. (`NODE_EXTRA_CA_CERTS` does it for all of a process.)
   */
  readonly caFile?: string | undefined
  /** For setting up a connection. Default 10,000 ms. */
  readonly connectTimeoutMs?: number | undefined
  /**
   * Within which an answer to the read of an object must begin, connecting included, or it is tried again on
   * a fresh connection. Default 5,000 ms. A store that takes longer by nature needs more.
   */
  readonly firstByteTimeoutMs?: number | undefined
  /**
   * For which a connection in use may be silent. Default 10,000 ms for reads and listings, and 60,000 ms for
   * writes, which a store may answer late; if it is given, for all.
   */
  readonly idleTimeoutMs?: number | undefined
  /** Bodies larger than this are uploaded in parts of this size; at least 5 MiB on AWS. Default 16 MiB. */
  readonly partBytes?: number | undefined
}

const CONNECT_TIMEOUT_MS = 10_000
const FIRST_BYTE_TIMEOUT_MS = 5_000
const IDLE_TIMEOUT_MS = 10_000
const WRITE_TIMEOUT_MS = 60_000

/** A client, and the connections that it uses. */
export interface S3Access {
  readonly client: S3Client
  readonly connections: S3Connections
}

/**
 * Creates a client; with `anew` one that reads the files of the profile again, which the SDK keeps in memory
 * for the life of the process. Throws `InvalidInput` if the settings, or those found in the environment, do
 * not make sense.
 */
export async function createS3Client(settings: S3Settings, anew = false): Promise<S3Access> {
  const connections = await openConnections(settings)
  const { credentials } = settings
  const endpoint = settings.endpoint ?? (await configuredEndpoint())
  if (endpoint !== undefined) assertEndpoint(endpoint)
  const region = settings.region ?? (endpoint === undefined ? undefined : await configuredRegion())
  const checksums = settings.requestChecksums === "when-supported" ? "WHEN_SUPPORTED" : "WHEN_REQUIRED"
  // The SDK would print that releases after the one we pin need a newer Node. It is for us to act on that.
  process.env.AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED ??= "true"
  const client = new S3Client({
    ...(endpoint !== undefined && { endpoint }),
    ...(region !== undefined && { region }),
    ...(credentials !== undefined && {
      credentials:
        typeof credentials === "function"
          ? async () => withoutUndefined(await credentials())
          : withoutUndefined(credentials),
    }),
    // Not in the SDK's types for a client, but handed on to what finds its credentials.
    ...(anew && { ignoreCache: true }),
    forcePathStyle: settings.forcePathStyle ?? endpoint !== undefined,
    requestChecksumCalculation: checksums,
    responseChecksumValidation: checksums,
    // Retries are made by with-retry.ts, and nowhere else.
    maxAttempts: 1,
    // Would open a new connection for each large body.
    expectContinueHeader: false,
    requestHandler: connections,
  })
  addHeaders(client, settings.headers ?? {})
  watchExchanges(client)
  return { client, connections }
}

/** Before the request is signed, so that they are part of what is. */
function addHeaders(client: S3Client, headers: Readonly<Record<string, string>>): void {
  client.middlewareStack.add(
    (next) => (args) => {
      Object.assign((args.request as { headers: object }).headers, headers)
      return next(args)
    },
    { step: "build", name: "addHeaders" },
  )
}

/** What Node trusts, and what is in the file. */
async function authoritiesWith(file: string): Promise<readonly string[]> {
  const extra = process.env.NODE_EXTRA_CA_CERTS
  const read = (path: string): Promise<string> =>
    readFile(path, "utf8").catch((error) => {
      throw fileError("read certificates from", path, error)
    })
  // Node's own list takes the place of what it read at its start.
  return [...rootCertificates, ...(extra ? [await read(extra)] : []), await read(file)]
}

async function openConnections(settings: S3Settings): Promise<S3Connections> {
  const caFile = settings.caFile ?? (process.env.AWS_CA_BUNDLE || undefined)
  const { connectTimeoutMs, firstByteTimeoutMs, idleTimeoutMs } = settings
  for (const [name, value] of Object.entries({ connectTimeoutMs, firstByteTimeoutMs, idleTimeoutMs }))
    if (value !== undefined) assertMilliseconds(`s3.${name}`, value)
  return new S3Connections({
    proxy: settings.proxy,
    authorities: caFile === undefined ? undefined : await authoritiesWith(caFile),
    connectTimeoutMs: connectTimeoutMs ?? CONNECT_TIMEOUT_MS,
    firstByteTimeoutMs: firstByteTimeoutMs ?? FIRST_BYTE_TIMEOUT_MS,
    idleTimeoutMs: idleTimeoutMs ?? IDLE_TIMEOUT_MS,
    writeTimeoutMs: idleTimeoutMs ?? WRITE_TIMEOUT_MS,
  })
}

function assertEndpoint(endpoint: string): void {
  const url = URL.canParse(endpoint) ? new URL(endpoint) : undefined
  // Never shown: wherever a password or a signature was put, it is not where it is looked for.
  if (url?.username || url?.password || url?.search || url?.hash) {
    throw invalidInput(
      "the S3 endpoint must not contain a user name, a password, a query or a fragment; use credentials instead",
    )
  }
  if (!/^https?:\/\//i.test(endpoint) || url === undefined) {
    throw invalidInput('the S3 endpoint must be an http:// or https:// URL, as in "http://127.0.0.1:9000"')
  }
}

/** The SDK's own rule, asked beforehand because path style depends on it. */
async function configuredEndpoint(): Promise<string | undefined> {
  const ignored = await loadConfig({
    environmentVariableSelector: (env) => env.AWS_IGNORE_CONFIGURED_ENDPOINT_URLS,
    configFileSelector: (profile) => profile.ignore_configured_endpoint_urls,
    default: "false",
  })()
  if (ignored === "true") return undefined
  const found = await loadConfig({
    environmentVariableSelector: (env) => env.AWS_ENDPOINT_URL_S3 || env.AWS_ENDPOINT_URL || undefined,
    configFileSelector: (profile, file) =>
      file?.[`services.${profile.services}`]?.["s3.endpoint_url"] ?? profile.endpoint_url,
    default: "",
  })()
  return found === "" ? undefined : found
}

/** The SDK's own rule, without its last resort: to ask the network of a virtual machine at AWS. */
async function configuredRegion(): Promise<string> {
  return loadConfig({
    environmentVariableSelector: (env) => env.AWS_REGION || env.AWS_DEFAULT_REGION || undefined,
    configFileSelector: (profile) => profile.region,
    default: "us-east-1",
  })()
}
