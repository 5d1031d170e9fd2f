/**
 * Plants secrets wherever users put them, right or wrong, lets everything fail in every way, and looks for them in all
 * that was printed, logged, thrown or stored.
 */
import { writeFile } from "node:fs/promises"
import { createServer, type IncomingMessage } from "node:http"
import type { AddressInfo } from "node:net"
import { join } from "node:path"
import { inspect } from "node:util"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { buildSnapshot, type Logger, openSnapshot, openStore, type StoreOptions } from "../../src/index.js"
import { type S3Server, startS3Server } from "../servers/s3-server.js"
import { runCli } from "../support/cli.js"
import { FIELDS, makeRecords } from "../support/records.js"
import { ALL } from "../support/scope.js"
import { withTempDir } from "../support/stores.js"

type S3Settings = NonNullable<StoreOptions["s3"]>

const ACCESS_KEY = "AKIAPLANTEDACCESSKEY"
const WRONG_KEY = "AKIAPLANTEDWRONGKEY0"
const SECRET_KEY = "planted/secret+key0123456789abcdefghijkl"
const TOKEN = "plantedSessionToken//token=="
const PASSWORD = "planted-passw0rd"
const SIGNATURE = "planted5ignature"
const PLANTED = [ACCESS_KEY, WRONG_KEY, SECRET_KEY, TOKEN, PASSWORD, SIGNATURE]

const RECORDS = makeRecords(60, { dim: 4, shards: 2 })
const SHARDING = { strategy: "explicit", shards: 2 } as const
const BUILD = { sharding: SHARDING, fields: FIELDS } as const
const RETRY = { attempts: 2, firstDelayMs: 1 }

let server: S3Server
/** Answers every request with all that it was sent, as proxies and captive portals do. */
let echo: ReturnType<typeof createServer>
let echoEndpoint: string

beforeAll(async () => {
  server = await startS3Server({ buckets: ["bucket"], accessKeyId: ACCESS_KEY })
  echo = createServer((request: IncomingMessage, response) => {
    request.resume()
    response.writeHead(403, { "content-type": "application/xml" })
    const said = request.rawHeaders.join(" ").replaceAll("&", "&amp;").replaceAll("<", "&lt;")
    response.end(`<Error><Code>SignatureDoesNotMatch</Code><Message>got ${said}</Message></Error>`)
  })
  await new Promise<void>((resolve) => echo.listen(0, "127.0.0.1", resolve))
  echoEndpoint = `http://127.0.0.1:${(echo.address() as AddressInfo).port}`
})

afterAll(async () => {
  echo.closeAllConnections()
  echo.close()
  await server.close()
})

const settings = (accessKeyId: string, endpoint = server.endpoint): S3Settings => ({
  endpoint,
  region: "us-east-1",
  credentials: { accessKeyId, secretAccessKey: SECRET_KEY, sessionToken: TOKEN },
})

function recorder(): { readonly logger: Logger; readonly lines: string[] } {
  const lines: string[] = []
  const log = (facts: object, message: string): void => {
    lines.push(inspect([facts, message], { depth: 10, showHidden: true }))
  }
  return { logger: { debug: log, info: log, warn: log, error: log }, lines }
}

/** All that an error says, to people, to programs and to debuggers. */
function everythingIn(error: unknown): string {
  const { message, stack, details, cause } = error as Error & { readonly details?: unknown }
  return [message, stack, JSON.stringify(details), inspect(cause, { depth: 10 })]
    .concat(inspect(error, { depth: 10, showHidden: true }), String(error))
    .join("\n")
}

const failureOf = (work: Promise<unknown>): Promise<string> =>
  work.then(() => expect.unreachable("it should have failed"), everythingIn)

function expectNoSecret(text: string): void {
  for (const secret of PLANTED) {
    expect(text).not.toContain(secret)
    expect(text).not.toContain(encodeURIComponent(secret))
  }
}

describe("secrets in options", () => {
  it("are in nothing that a build and a query log or store", async () => {
    const { logger, lines } = recorder()
    const url = "s3://bucket/right"
    const store = { s3: settings(ACCESS_KEY), retry: RETRY }
    const report = await buildSnapshot(RECORDS, { to: url, store, ...BUILD, logger })
    // A second one that fails half-way leaves a run record with an error.
    server.fault({ operation: "PutObject", key: /shards/ }, { do: "status", status: 500 }, 100)
    const failed = await failureOf(buildSnapshot(RECORDS, { to: url, store, ...BUILD, logger, reuse: false }))
    server.clearFaults()
    await withTempDir(async (cacheDir) => {
      await using reader = await openSnapshot(url, { store, cacheDir, logger })
      const result = await reader.search(RECORDS[0]!.vector as Float32Array, { shards: "all" })
      expectNoSecret(inspect([result, reader.snapshot, reader.stats(), await reader.health()], { depth: 10 }))
    })
    const opened = openStore(url, store)
    const stored: string[] = []
    for await (const { key } of opened.list(""))
      stored.push(key, Buffer.from((await opened.get(key))!.body).toString("latin1"))
    expect(stored.filter((text) => text.startsWith("runs/"))).toHaveLength(2)
    expect(stored.join()).toContain('"state": "failed"')
    expectNoSecret([inspect(opened, { depth: 10, showHidden: true }), JSON.stringify(report)].join())
    opened.close()
    expectNoSecret([failed, ...lines, ...stored].join("\n"))
  })

  it("are in no error, whether a store refuses them or repeats them", async () => {
    for (const s3 of [settings(WRONG_KEY), settings(ACCESS_KEY, echoEndpoint)]) {
      const { logger, lines } = recorder()
      const store = { s3, retry: RETRY }
      const errors = [
        await failureOf(openSnapshot("s3://bucket/right", { store, logger })),
        await failureOf(buildSnapshot(RECORDS, { to: "s3://bucket/x", store, ...BUILD, logger })),
        await failureOf(openStore("s3://bucket/x", store).put("key", new Uint8Array(3), { ifAbsent: true })),
      ]
      for (const error of errors) expect(error).toMatch(/HTTP 403/)
      expect(errors[0]).toContain(s3.endpoint === echoEndpoint ? "Credential=…" : "InvalidAccessKeyId")
      expectNoSecret([...errors, ...lines].join("\n"))
    }
  })

  it.each([
    `http://${ACCESS_KEY}:${PASSWORD}@127.0.0.1:1`,
    `${ACCESS_KEY}:${PASSWORD}@127.0.0.1:1`,
    `//${ACCESS_KEY}:${PASSWORD}@127.0.0.1`,
    `ftp://${ACCESS_KEY}:${PASSWORD}@127.0.0.1`,
    `http://127.0.0.1:1/?X-Amz-Credential=${ACCESS_KEY}&X-Amz-Signature=${SIGNATURE}`,
    `http://127.0.0.1:1/#${PASSWORD}`,
    `http:${PASSWORD}`,
  ])("are refused in an endpoint without being repeated: %s", async (endpoint) => {
    const error = await failureOf(
      openStore("s3://bucket", { s3: settings(ACCESS_KEY, endpoint), retry: RETRY }).get("k"),
    )
    expect(error).toMatch(/the S3 endpoint must/)
    expectNoSecret(error)
  })

  it.each([
    `s3://${ACCESS_KEY}:${PASSWORD}@bucket/prefix`,
    `s3:${ACCESS_KEY}:${PASSWORD}@bucket/prefix`,
    `s3:///${ACCESS_KEY}:${PASSWORD}@bucket/prefix`,
    `s3://bucket/prefix?X-Amz-Signature=${SIGNATURE}`,
    `https://${ACCESS_KEY}:${PASSWORD}@127.0.0.1/bucket`,
    `https:${ACCESS_KEY}:${PASSWORD}@127.0.0.1/bucket`,
    `file://${ACCESS_KEY}:${PASSWORD}@host/x`,
    `memory:${ACCESS_KEY}:${PASSWORD}@x`,
  ])("are refused in the URL of a store without being repeated: %s", async (url) => {
    for (const work of [
      async () => openSnapshot(url),
      async () => buildSnapshot(RECORDS, { to: url, ...BUILD }),
    ]) {
      const error = await failureOf(work())
      expect(error).toMatch(/InvalidInput/)
      expectNoSecret(error)
    }
  })
})

describe("secrets in the environment", () => {
  const environment = (more: NodeJS.ProcessEnv): NodeJS.ProcessEnv => ({
    AWS_ENDPOINT_URL_S3: server.endpoint,
    AWS_ACCESS_KEY_ID: ACCESS_KEY,
    AWS_SECRET_ACCESS_KEY: SECRET_KEY,
    AWS_SESSION_TOKEN: TOKEN,
    ...more,
  })

  const COMMANDS: readonly (readonly [string, () => NodeJS.ProcessEnv, readonly string[], number])[] = [
    ["a query", () => ({}), ["query", "s3://bucket/right", "--vector", "[1,0,0,0]", "--shards", "all"], 0],
    [
      "a failing credential_process",
      () => ({
        AWS_ACCESS_KEY_ID: "",
        AWS_SECRET_ACCESS_KEY: "",
        AWS_PROFILE: "planted",
        AWS_CONFIG_FILE: "planted",
      }),
      ["info", "s3://bucket/right"],
      7,
    ],
    ["a password in a flag", () => ({}), ["info", "s3://bucket", "--endpoint", `u:${PASSWORD}@h`], 2],
    ["an info", () => ({}), ["info", "s3://bucket/right"], 0],
    ["wrong keys", () => ({ AWS_ACCESS_KEY_ID: WRONG_KEY }), ["info", "s3://bucket/right"], 7],
    ["a store that repeats", () => ({ AWS_ENDPOINT_URL_S3: echoEndpoint }), ["info", "s3://bucket/right"], 7],
    [
      "a password in the endpoint",
      () => ({ AWS_ENDPOINT_URL_S3: `http://u:${PASSWORD}@127.0.0.1:1` }),
      ["info", "s3://bucket/right"],
      2,
    ],
    ["a flag that does not exist", () => ({}), ["info", "s3://bucket", `--secret-key=${PASSWORD}`], 2],
  ]

  it.each(ALL ? COMMANDS : COMMANDS.slice(0, 3))("are not printed by %s", async (_, more, args, code) => {
    await withTempDir(async (dir) => {
      const profile = join(dir, "config")
      await writeFile(
        profile,
        `[profile planted]\ncredential_process = sh -c "echo ${SECRET_KEY} >&2; exit 1" --password ${PASSWORD}\n`,
      )
      const extra = more()
      const env = environment({
        ...extra,
        XDG_CACHE_HOME: dir,
        ...("AWS_CONFIG_FILE" in extra && { AWS_CONFIG_FILE: profile }),
      })
      const result = await runCli([...args, "--json", "--debug"], env)
      expect(result.code, result.stderr).toBe(code)
      expect(result.stdout + result.stderr).not.toBe("")
      expectNoSecret(result.stdout + result.stderr)
    })
  })
})
