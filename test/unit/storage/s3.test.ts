import { mkdtemp, readdir, rm, truncate, writeFile } from "node:fs/promises"
import { createServer, type IncomingMessage, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterEach, beforeEach, describe, expect, it } from "vitest"
import { isLasting, isVecsnapError } from "../../../src/errors.js"
import { createRetry } from "../../../src/storage/retry.js"
import { openS3Store } from "../../../src/storage/s3.js"
import type { S3Settings } from "../../../src/storage/s3-client.js"
import { withRetry } from "../../../src/storage/with-retry.js"
import { startS3Server } from "../../servers/s3-server.js"

process.env.AWS_EC2_METADATA_DISABLED = "true"

// A server that answers by script, for what no real one can be asked to do.
interface Seen {
  readonly method: string
  readonly url: string
  readonly headers: IncomingMessage["headers"]
  readonly body: Buffer
}
type Answer = (response: ServerResponse, request: Seen) => void

const SECRET = "do-not-tell"
const MIB = 1024 * 1024
let directory: string
let seen: Seen[]
let answers: Answer[]
let endpoint: string
let stop: () => Promise<void>

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "vecsnap-s3-"))
  seen = []
  answers = []
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = []
    try {
      for await (const chunk of request) chunks.push(chunk as Buffer)
    } catch {
      // The client has left in the middle of its request.
      return
    }
    const { method = "", url = "", headers } = request
    const one = { method, url, headers, body: Buffer.concat(chunks) }
    seen.push(one)
    const answer = answers.length > 1 ? answers.shift() : answers[0]
    if (answer === undefined) throw new Error("no answer in the script")
    answer(response, one)
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  stop = () =>
    new Promise((resolve) => {
      server.close(() => resolve())
      server.closeAllConnections()
    })
})
afterEach(async () => {
  await stop()
  await rm(directory, { recursive: true, force: true })
})

function open(settings: Partial<S3Settings> = {}, retry = createRetry({ attempts: 1 })) {
  const credentials = { accessKeyId: "key-id", secretAccessKey: SECRET }
  return openS3Store("bucket", "root", { endpoint, region: "us-east-1", credentials, ...settings }, retry)
}

const ok =
  (headers: Record<string, string> = {}, body: string | Buffer = ""): Answer =>
  (response) => {
    response.writeHead(200, { etag: '"e"', ...headers }).end(body)
  }
const status =
  (code: number, name: string): Answer =>
  (response, { method }) => {
    const xml = `<?xml version="1.0"?><Error><Code>${name}</Code><Message>why</Message></Error>`
    response.writeHead(code, { "content-type": "application/xml" }).end(method === "HEAD" ? "" : xml)
  }
const reset: Answer = (response) => {
  response.socket?.resetAndDestroy()
}

async function failure(call: Promise<unknown>) {
  try {
    await call
  } catch (error) {
    if (isVecsnapError(error)) return error
    throw error
  }
  throw new Error("did not fail")
}

describe("S3 store, errors", () => {
  const body = new Uint8Array(1)

  it.each([
    [400, "ExpiredToken", "lasting"],
    [400, "RequestTimeout", "Unavailable"],
    [400, "BadDigest", "Unavailable"],
    [401, "Unauthorized", "lasting"],
    [403, "AccessDenied", "lasting"],
    [404, "NoSuchBucket", "NotFound"],
    [404, "XAdminUserNotFound", "lasting"],
    [405, "MethodNotAllowed", "Unsupported"],
    [409, "ConditionalRequestConflict", "Unavailable"],
    [412, "PreconditionFailed", "Conflict"],
    [429, "TooManyRequests", "Unavailable"],
    [500, "InternalError", "Unavailable"],
    [501, "NotImplemented", "Unsupported"],
    [503, "SlowDown", "Unavailable"],
  ])("tells %i %s as %s", async (code, name, tag) => {
    answers = [status(code, name)]
    const error = await failure(open().put("key", body))
    // What the store refuses is to be put right there, not in the call.
    expect(error.tag).toBe(tag === "lasting" ? "Unavailable" : tag)
    expect(isLasting(error)).toBe(tag === "lasting")
    expect(error.message).toContain(
      `s3:PutObject of s3://bucket/root/key failed with ${name} (HTTP ${code}): why`,
    )
    expect(error.details).toMatchObject({ bucket: "bucket", status: code, code: name })
  })

  it("sends each request once: retries are made elsewhere", async () => {
    answers = [status(503, "SlowDown")]
    await failure(open().get("key"))
    expect(seen).toHaveLength(1)
  })

  it("tells 416 as Corrupt", async () => {
    answers = [status(416, "InvalidRange")]
    expect((await failure(open().get("key", { range: { start: 5, end: 6 } }))).tag).toBe("Corrupt")
  })

  it("takes a 404 without a body, or about the key, for a missing object", async () => {
    answers = [status(404, "")]
    expect(await open().head("key")).toBeUndefined()
    answers = [(response) => response.writeHead(404).end()]
    expect(await open().get("key")).toBeUndefined()
    answers = [status(404, "NoSuchKey")]
    expect(await open().get("key")).toBeUndefined()
    answers = [status(404, "XAdminUserNotFound")]
    expect(isLasting(await failure(open().get("key")))).toBe(true)
  })

  it("tells resets, refused connections and silence as Unavailable", async () => {
    answers = [reset]
    expect((await failure(open().get("key"))).tag).toBe("Unavailable")
    answers = [() => {}]
    expect((await failure(open({ idleTimeoutMs: 50 }).get("key"))).tag).toBe("Unavailable")
    await stop()
    const refused = await failure(open().get("key"))
    expect(refused.tag).toBe("Unavailable")
    expect(refused.message).toContain("ECONNREFUSED")
  })

  it("tells a body that is cut off as Unavailable, and leaves no file", async () => {
    const cut: Answer = (response) => {
      response.writeHead(200, { etag: '"e"', "content-length": "100" })
      response.write("only this", () => response.socket?.destroy())
    }
    answers = [cut]
    expect((await failure(open().get("key"))).tag).toBe("Unavailable")
    expect((await failure(open().getFile("key", join(directory, "cut")))).tag).toBe("Unavailable")
    expect(await readdir(directory)).toEqual([])
  })

  it("tells a body that falls silent as Unavailable", async () => {
    answers = [
      (response) => {
        response.writeHead(200, { etag: '"e"', "content-length": "100" })
        response.write("only this")
      },
    ]
    expect((await failure(open({ idleTimeoutMs: 50 }).get("key"))).tag).toBe("Unavailable")
  })

  it("tells a whole object, another range or a short one as Corrupt, when a range was asked for", async () => {
    const range = { start: 2, end: 4 }
    answers = [ok({}, "0123456789")]
    expect((await failure(open().get("key", { range }))).tag).toBe("Corrupt")
    const partial =
      (contentRange: string, body: string): Answer =>
      (response) => {
        response.writeHead(206, { etag: '"e"', "content-range": contentRange }).end(body)
      }
    answers = [partial("bytes 0-1/10", "01")]
    expect((await failure(open().get("key", { range }))).tag).toBe("Corrupt")
    answers = [partial("bytes 2-2/3", "2")]
    expect((await failure(open().get("key", { range }))).tag).toBe("Corrupt")
    answers = [partial("bytes 2-3/10", "23")]
    expect((await open().get("key", { range }))?.body).toEqual(new Uint8Array(Buffer.from("23")))
  })

  it("says that whatever answered is not S3", async () => {
    answers = [ok({ "content-type": "text/html" }, "<html><p>Welcome!</html>")]
    const listing = open().list("")[Symbol.asyncIterator]()
    expect((await failure(listing.next())).tag).toBe("Unsupported")
  })

  it.each<[string, Answer, RegExp]>([
    ["an unknown key", status(403, "InvalidAccessKeyId"), /does not know the access key/],
    ["a wrong secret", status(403, "SignatureDoesNotMatch"), /secret key is not that of the access key/],
    ["a missing permission", status(403, "AccessDenied"), /do not allow s3:GetObject in the bucket "bucket"/],
    ["an expired token", status(400, "ExpiredToken"), /session token has expired: renew/],
    ["a token of other keys", status(400, "InvalidToken"), /token does not belong to the access key/],
    ["an archived object", status(403, "InvalidObjectState"), /archive \(Glacier\): restore it/],
    ["a disabled key of KMS", status(400, "KMS.DisabledException"), /\(KMS\) cannot be used/],
    ["a key of KMS that MinIO does not know", status(404, "kms:KeyNotFound"), /\(KMS\) cannot be used/],
    ["a class that the store lacks", status(400, "InvalidStorageClass"), /s3\.storageClass, or none/],
    [
      "an object of a key of the customer's",
      (response) =>
        response
          .writeHead(400, { "content-type": "application/xml" })
          .end(
            "<Error><Code>InvalidRequest</Code><Message>stored using a form of Server Side Encryption</Message></Error>",
          ),
      /customer's own key \(SSE-C\): give it by s3\.encryption/,
    ],
    ["a full bucket", status(403, "QuotaExceeded"), /is full: make room/],
    ["a full store", status(507, "XMinioStorageFull"), /is full: make room/],
    [
      "a key of KMS that is not allowed",
      (response) =>
        response
          .writeHead(403, { "content-type": "application/xml" })
          .end(
            "<Error><Code>AccessDenied</Code><Message>not authorized to perform: kms:Decrypt on it</Message></Error>",
          ),
      /\(KMS\) cannot be used.*kms:Decrypt/,
    ],
    [
      "another region, in a header",
      (response) => response.writeHead(301, { "x-amz-bucket-region": "eu-central-1" }).end(),
      /is in the region eu-central-1: set the option region to "eu-central-1"/,
    ],
    [
      "another region, in the answer",
      (response) =>
        response
          .writeHead(400, { "content-type": "application/xml" })
          .end(
            "<Error><Code>AuthorizationHeaderMalformed</Code><Message>wrong</Message><Region>eu-west-3</Region></Error>",
          ),
      /is in the region eu-west-3: set the option region to "eu-west-3"/,
    ],
    [
      "another region, unnamed",
      status(301, "PermanentRedirect"),
      /is in another region: set the option region/,
    ],
    [
      "the page of a proxy",
      (response) => response.writeHead(403, { "content-type": "text/html" }).end("<html><p>Blocked</html>"),
      /the answer is a web page.*proxy/,
    ],
    [
      "a proxy that asks who we are",
      (response) => response.writeHead(407, { "content-type": "text/html" }).end("<html>who?</html>"),
      /http:\/\/user:password@proxy/,
    ],
  ])("gives %s a sentence of its own", async (_, answer, sentence) => {
    answers = [answer]
    const error = await failure(open().get("key"))
    expect(error.message).toMatch(sentence)
    expect(error.message).not.toContain("check the credentials")
    expect(error.details.recovery).toBeUndefined()
  })

  it("tries again what a proxy answers with a page for an outage", async () => {
    answers = [(response) => response.writeHead(502, { "content-type": "text/html" }).end("<html>Bad</html>")]
    expect((await failure(open().get("key"))).tag).toBe("Unavailable")
  })

  it("hides what is long enough to be a secret, and no letters of words", async () => {
    const explains: Answer = (response, { headers }) => {
      const key = /Credential=([^/]+)/.exec(headers.authorization ?? "")?.[1]
      const token = headers["x-amz-security-token"]
      const text = `a password of key ${key} and token ${token}`
      response
        .writeHead(403, { "content-type": "application/xml" })
        .end(`<Error><Code>AccessDenied</Code><Message>${text}</Message></Error>`)
    }
    const says = async (accessKeyId: string, sessionToken: string) => {
      answers = [explains]
      const credentials = { accessKeyId, secretAccessKey: SECRET, sessionToken }
      return (await failure(open({ credentials }).get("key"))).message
    }
    expect(await says("a", "token-of-a-session")).toContain("a password of key a and token …")
    expect(await says("AKIAIOSFODNN7EXAMPLE", "t")).toContain("a password of key … and token t")
  })

  it("hides secrets in the code of an answer too, and tells no more of it than fits in a sentence", async () => {
    const repeats: Answer = (response, { headers }) => {
      const key = /Credential=([^/]+)/.exec(headers.authorization ?? "")?.[1]
      const said = `<Code>No ${key} ${headers["x-amz-security-token"]} ${"c".repeat(1e5)}</Code><Message>${"m".repeat(1e5)}</Message>`
      response.writeHead(403, { "content-type": "application/xml" }).end(`<Error>${said}</Error>`)
    }
    answers = [repeats]
    const credentials = {
      accessKeyId: "AKIAIOSFODNN7EXAMPLE",
      secretAccessKey: SECRET,
      sessionToken: "token-do-not-tell",
    }
    const error = await failure(open({ credentials }).get("key"))
    expect(error.message).toContain("failed with No … …")
    expect(error.message.length).toBeLessThan(2000)
    const { inspect } = await import("node:util")
    expect(inspect(error, { depth: 20, showHidden: true })).not.toMatch(/do-not-tell|AKIAIOSFODNN7EXAMPLE/)
  })

  it("keeps secrets and request headers to itself", async () => {
    answers = [status(403, "SignatureDoesNotMatch")]
    const credentials = { accessKeyId: "key-id", secretAccessKey: SECRET, sessionToken: "token-do-not-tell" }
    const error = await failure(open({ credentials }).get("key"))
    expect(Object.getOwnPropertyNames(error.cause)).not.toContain("$response")
    const { inspect } = await import("node:util")
    expect(inspect(error, { depth: 20, showHidden: true })).not.toContain("do-not-tell")
  })

  it("refuses an endpoint that is none, or that holds a password, without repeating it", async () => {
    expect((await failure(open({ endpoint: "localhost:9000" }).get("key"))).tag).toBe("InvalidInput")
    const error = await failure(open({ endpoint: `http://user:${SECRET}@127.0.0.1:1` }).get("key"))
    expect(error.tag).toBe("InvalidInput")
    expect(error.message).not.toContain(SECRET)
  })

  it("can be aborted while it waits for an answer", async () => {
    const controller = new AbortController()
    answers = [() => controller.abort()]
    expect((await failure(open().get("key", { signal: controller.signal }))).tag).toBe("Aborted")
  })
})

describe("S3 store, requests", () => {
  it("sends bodies with their length, signed, and without the SDK's framing", async () => {
    answers = [ok()]
    const file = join(directory, "body")
    await writeFile(file, "from a file")
    await open().put("key", Buffer.from("from memory"), { contentType: "application/json" })
    await open().put("key", { file })
    expect(seen.map(({ body }) => String(body))).toEqual(["from memory", "from a file"])
    for (const { headers } of seen) {
      expect(headers["content-length"]).toBe("11")
      expect(headers["x-amz-content-sha256"]).toMatch(/^[0-9a-f]{64}$/)
      expect(headers["content-encoding"]).toBeUndefined()
      expect(headers.expect).toBeUndefined()
      expect(Object.keys(headers).filter((name) => name.includes("checksum"))).toEqual([])
    }
    expect(seen.map(({ headers }) => headers["content-type"])).toEqual([
      "application/json",
      "application/octet-stream",
    ])
  })

  it("uses path style with an endpoint of its own, given or found", async () => {
    answers = [ok()]
    await open().put("a b+é", new Uint8Array())
    process.env.AWS_ENDPOINT_URL_S3 = endpoint
    try {
      const credentials = { accessKeyId: "a", secretAccessKey: "b" }
      await openS3Store("bucket", "", { region: "us-east-1", credentials }).put("key", new Uint8Array())
    } finally {
      delete process.env.AWS_ENDPOINT_URL_S3
    }
    expect(seen.map(({ url }) => url.split("?")[0])).toEqual(["/bucket/root/a%20b%2B%C3%A9", "/bucket/key"])
  })

  const requestsWith = async (settings: Partial<S3Settings>) => {
    answers = [
      (response, { method, url }) =>
        ok({}, url.includes("uploads") ? REPLY_TO_CREATE : method === "GET" ? "<ListBucketResult/>" : "<x/>")(
          response,
          { method, url, headers: {}, body: Buffer.alloc(0) },
        ),
    ]
    const store = open({ partBytes: 5 * MIB, ...settings })
    await store.put("small", new Uint8Array(1))
    await store.put("large", new Uint8Array(6 * MIB)).catch(() => {})
    await store.get("small")
    await store.head("small")
    await store.delete(["small"])
    for await (const _ of store.list("")) break
    return {
      /** Names of the requests that had the header, with its value. */
      having: (name: string) =>
        seen
          .filter(({ headers }) => headers[name] !== undefined)
          .map((request) => `${nameOf(request)} ${request.headers[name]}`)
          .filter((text, i, all) => all.indexOf(text) === i)
          .sort(),
      signed: (name: string) =>
        seen.every(({ headers }) =>
          new RegExp(`SignedHeaders=[^,]*\\b${name}\\b`).test(headers.authorization!),
        ),
    }
  }
  const REPLY_TO_CREATE =
    "<InitiateMultipartUploadResult><UploadId>id</UploadId></InitiateMultipartUploadResult>"
  const nameOf = ({ method, url }: Seen) =>
    url.includes("list-type")
      ? "list"
      : url.includes("delete")
        ? "delete"
        : url.includes("uploads")
          ? "create"
          : url.includes("uploadId")
            ? { PUT: "part", POST: "complete", DELETE: "abort" }[method]!
            : method.toLowerCase()

  it("pays for requests where asked to", async () => {
    const { having } = await requestsWith({ requesterPays: true })
    expect(having("x-amz-request-payer")).toEqual(
      ["put", "create", "part", "complete", "get", "head", "delete", "list"]
        .map((name) => `${name} requester`)
        .sort(),
    )
  })

  it("encrypts by keys of the store or of KMS, in the class and for the owner that are asked for", async () => {
    const { having } = await requestsWith({
      encryption: { type: "aws:kms", keyId: "key-of-kms" },
      storageClass: "STANDARD_IA",
      acl: "bucket-owner-full-control",
    })
    expect(having("x-amz-server-side-encryption")).toEqual(["create aws:kms", "put aws:kms"])
    expect(having("x-amz-server-side-encryption-aws-kms-key-id")).toEqual([
      "create key-of-kms",
      "put key-of-kms",
    ])
    expect(having("x-amz-storage-class")).toEqual(["create STANDARD_IA", "put STANDARD_IA"])
    expect(having("x-amz-acl")).toEqual(["create bucket-owner-full-control", "put bucket-owner-full-control"])
  })

  it("encrypts by a key of our own, which goes with reads, too", async () => {
    const key = Buffer.alloc(32, 7)
    const { having } = await requestsWith({ encryption: { type: "customer-key", key } })
    expect(having("x-amz-server-side-encryption-customer-key")).toEqual(
      ["put", "create", "part", "complete", "get", "head"]
        .map((name) => `${name} ${key.toString("base64")}`)
        .sort(),
    )
    expect(having("x-amz-server-side-encryption-customer-key-md5")).toHaveLength(6)
    expect(() => open({ encryption: { type: "customer-key", key: key.subarray(1) } })).toThrow(
      /has 31 bytes, expected 32/,
    )
  })

  it("adds headers to each request, signed, but none of its own", async () => {
    const { having, signed } = await requestsWith({ headers: { "x-tenant": "ours" } })
    expect(having("x-tenant")).toHaveLength(8)
    expect(signed("x-tenant")).toBe(true)
    expect(() => open({ headers: { Authorization: "mine" } })).toThrow(/option s3.headers has Authorization/)
  })

  it("tries an ETag without its quotes when it does not match with them", async () => {
    answers = [status(412, "PreconditionFailed"), ok({ etag: '"new"' })]
    expect(await open().put("key", new Uint8Array(1), { ifMatch: '"old"' })).toEqual({ etag: '"new"' })
    expect(seen.map(({ headers }) => headers["if-match"])).toEqual(['"old"', "old"])
  })

  it("tells a compare-and-set of a missing object as Conflict, of a missing bucket as NotFound", async () => {
    answers = [status(404, "NoSuchKey")]
    const missing = await failure(open().put("key", new Uint8Array(1), { ifMatch: '"old"' }))
    expect(missing.tag).toBe("Conflict")
    expect(missing.message).toBe('s3://bucket/root/key does not exist, expected version "old"')
    answers = [status(404, "NoSuchBucket")]
    expect((await failure(open().put("key", new Uint8Array(1), { ifMatch: '"old"' }))).tag).toBe("NotFound")
  })

  it("deletes by 1,000 keys, with a checksum that old stores know, and reports what stayed", async () => {
    const xml = (error: string) => `<?xml version="1.0"?><DeleteResult>${error}</DeleteResult>`
    const error = (key: string, code: string) =>
      `<Error><Key>root/${key}</Key><Code>${code}</Code><Message>why</Message></Error>`
    answers = [
      ok({}, xml(error("k7", "AccessDenied") + error("k8", "NoSuchKey"))),
      ok({}, xml("")),
      ok({}, xml(error("k2001", "InternalError"))),
    ]
    const failures = await open().delete(Array.from({ length: 2_002 }, (_, i) => `k${i}`))
    expect(failures).toEqual([
      { key: "k7", reason: "AccessDenied: why" },
      { key: "k2001", reason: "InternalError: why" },
    ])
    expect(seen.map(({ body }) => String(body).match(/<Key>/g)?.length)).toEqual([1_000, 1_000, 2])
    for (const { headers } of seen) {
      expect(headers["content-md5"]).toMatch(/^[\w+/]{22}==$/)
      expect(Object.keys(headers).filter((name) => name.includes("checksum"))).toEqual([])
    }
  })
})

describe("S3 store, what it can put right", () => {
  const keyOf = ({ headers }: Seen) => /Credential=([^/]+)/.exec(headers.authorization ?? "")?.[1]
  const retrying = (settings: Partial<S3Settings>) => {
    const retry = createRetry({ attempts: 1 })
    return withRetry(open(settings, retry), retry)
  }
  /** Credentials numbered by how often they were asked for. */
  const numbered = () => {
    let asked = 0
    return async () => ({
      accessKeyId: `key-number-${++asked}`,
      secretAccessKey: SECRET,
      sessionToken: "token",
    })
  }

  it("asks for credentials again, once, when the store says that they have expired", async () => {
    answers = [ok({}, "first"), status(400, "ExpiredToken"), ok({}, "second")]
    const store = retrying({ credentials: numbered() })
    await store.get("key")
    expect(Buffer.from((await store.get("key"))!.body).toString()).toBe("second")
    expect(seen.map(keyOf)).toEqual(["key-number-1", "key-number-1", "key-number-2"])
  })

  it("says so when those are expired, too", async () => {
    answers = [status(400, "ExpiredToken")]
    const error = await failure(retrying({ credentials: numbered() }).get("key"))
    expect(error.message).toContain("the session token has expired: renew the credentials")
    expect(seen.map(keyOf)).toEqual(["key-number-1", "key-number-2"])
  })

  it("asks once for all the calls that find out at the same time", async () => {
    const expired: Answer = (response, request) =>
      keyOf(request) === "key-number-1"
        ? status(400, "ExpiredToken")(response, request)
        : ok({}, "body")(response, request)
    answers = [expired]
    const store = retrying({ credentials: numbered() })
    await Promise.all(Array.from({ length: 8 }, () => store.get("key")))
    expect(new Set(seen.map(keyOf))).toEqual(new Set(["key-number-1", "key-number-2"]))
  })

  it("reads the file of a profile again, which a program beside us has renewed", async () => {
    const file = join(directory, "credentials")
    const write = (key: string) =>
      writeFile(file, `[renewed]\naws_access_key_id=${key}\naws_secret_access_key=x\naws_session_token=t\n`)
    await write("key-number-1")
    const { AWS_PROFILE, AWS_SHARED_CREDENTIALS_FILE, AWS_ACCESS_KEY_ID } = process.env
    Object.assign(process.env, { AWS_PROFILE: "renewed", AWS_SHARED_CREDENTIALS_FILE: file })
    delete process.env.AWS_ACCESS_KEY_ID
    try {
      const renews: Answer = (response, request) => {
        void write("key-number-2").then(() => status(400, "ExpiredToken")(response, request))
      }
      answers = [ok({}, "first"), renews, ok({}, "second")]
      const store = withRetry(openS3Store("bucket", "", { endpoint, region: "us-east-1" }), createRetry())
      await store.get("key")
      await store.get("key")
      expect(seen.map(keyOf)).toEqual(["key-number-1", "key-number-1", "key-number-2"])
    } finally {
      const before = { AWS_PROFILE, AWS_SHARED_CREDENTIALS_FILE, AWS_ACCESS_KEY_ID }
      for (const [name, value] of Object.entries(before)) {
        if (value === undefined) delete process.env[name]
        else process.env[name] = value
      }
    }
  })

  it.each([-20, 20])("signs by the store's clock when ours is off: %i minutes", async (minutes) => {
    const server = await startS3Server({ buckets: ["bucket"], clockAheadMs: minutes * 60_000 })
    try {
      const store = retrying({ endpoint: server.endpoint })
      // A HEAD, whose refusal has no body to say why.
      expect(await store.head("key")).toBeUndefined()
      expect(server.requests.map(({ status }) => status)).toEqual([403, 404])
      await store.put("key", new Uint8Array(3))
      expect((await store.get("key"))?.body.length).toBe(3)
      expect(server.requests.map(({ status }) => status)).toEqual([403, 404, 200, 200])
    } finally {
      await server.close()
    }
  })

  it("says whose clock is off where that does not help", async () => {
    const date = new Date(Date.now() - 20 * 60_000).toUTCString()
    answers = [
      (response) =>
        response
          .writeHead(403, { "content-type": "application/xml", date })
          .end("<Error><Code>RequestTimeTooSkewed</Code><Message>why</Message></Error>"),
    ]
    const error = await failure(open().get("key"))
    expect(error.message).toContain("the clock of this machine is 20 minutes ahead of the store's: set it")
  })
})

describe("S3 store, uploads in parts", () => {
  const body = new Uint8Array(12 * MIB)
  const upload = (settings: Partial<S3Settings> = {}, retry = createRetry({ attempts: 1 })) =>
    open({ partBytes: 5 * MIB, ...settings }, retry)

  type Step = "create" | "part" | "complete" | "abort"
  const REPLIES = {
    create: "<InitiateMultipartUploadResult><UploadId>id</UploadId></InitiateMultipartUploadResult>",
    part: "",
    complete: "<CompleteMultipartUploadResult><ETag>&quot;whole&quot;</ETag></CompleteMultipartUploadResult>",
    abort: "",
  }

  /** Answers the steps of an upload; `faults` go before, each for one request that it matches. */
  function script(faults: { readonly step: Step; readonly answer: Answer }[]): Answer {
    return (response, request) => {
      const step = stepOf(request)
      const i = faults.findIndex((fault) => fault.step === step)
      const [fault] = i < 0 ? [] : faults.splice(i, 1)
      if (fault !== undefined) return fault.answer(response, request)
      return ok({}, REPLIES[step])(response, request)
    }
  }
  function stepOf({ method, url }: Seen): Step {
    if (method === "PUT") return "part"
    if (method === "DELETE") return "abort"
    return url.includes("uploadId") ? "complete" : "create"
  }
  const steps = () => seen.map(stepOf)

  it("creates, sends all bytes, completes with the precondition", async () => {
    // The first answer goes to the look at what exists.
    answers = [status(404, ""), script([])]
    const { etag } = await upload().put("key", body, { ifAbsent: true })
    expect(etag).toBe('"whole"')
    const requests = seen.slice(1)
    expect(requests.map(stepOf).sort()).toEqual(["complete", "create", "part", "part", "part"])
    expect(
      requests.filter((one) => stepOf(one) === "part").reduce((sum, one) => sum + one.body.length, 0),
    ).toBe(body.length)
    expect(requests.at(-1)?.headers["if-none-match"]).toBe("*")
    expect(
      String(requests.at(-1)?.body)
        .match(/<PartNumber>\d/g)
        ?.join(),
    ).toBe("<PartNumber>1,<PartNumber>2,<PartNumber>3")
  })

  it("repeats only the part that failed", async () => {
    answers = [script([{ step: "part", answer: status(503, "SlowDown") }])]
    await upload({}, createRetry({ attempts: 2, firstDelayMs: 1 })).put("key", body)
    expect(steps().sort()).toEqual(["complete", "create", "part", "part", "part", "part"])
  })

  // Where an upload ends early, the abort need not be the last to arrive: parts under way may come in later.
  it("removes the parts when one is refused", async () => {
    answers = [script([{ step: "part", answer: status(403, "AccessDenied") }])]
    expect(isLasting(await failure(upload().put("key", body)))).toBe(true)
    expect(steps().filter((step) => step === "abort")).toHaveLength(1)
  })

  it("removes the parts when the caller aborts", async () => {
    const controller = new AbortController()
    answers = [script([{ step: "part", answer: () => controller.abort() }])]
    expect((await failure(upload().put("key", body, { signal: controller.signal }))).tag).toBe("Aborted")
    expect(steps().filter((step) => step === "abort")).toHaveLength(1)
  })

  it("removes the parts when the precondition does not hold in the end", async () => {
    answers = [script([{ step: "complete", answer: status(412, "PreconditionFailed") }])]
    expect((await failure(upload().put("key", body))).tag).toBe("Conflict")
    expect(steps().slice(-2)).toEqual(["complete", "abort"])
  })

  it("says so when the parts could not be removed", async () => {
    answers = [
      script([
        { step: "complete", answer: status(503, "SlowDown") },
        { step: "abort", answer: status(403, "AccessDenied") },
      ]),
    ]
    const error = await failure(upload().put("key", body))
    expect(error.tag).toBe("Unavailable")
    expect(error.message).toContain("its parts stay behind as upload id")
    expect(error.message).toContain("AccessDenied")
    expect(error.details.uploadId).toBe("id")
  })

  it("does not complain of parts that a completion with a lost reply has used up", async () => {
    answers = [
      script([
        { step: "complete", answer: reset },
        { step: "abort", answer: status(404, "NoSuchUpload") },
      ]),
    ]
    const error = await failure(upload().put("key", body))
    expect(error.tag).toBe("Unavailable")
    expect(error.message).not.toContain("stay behind")
  })

  it("uploads nothing long when the precondition does not hold to begin with", async () => {
    answers = [ok()]
    expect((await failure(open().put("key", new Uint8Array(MIB), { ifAbsent: true }))).tag).toBe("Conflict")
    expect((await failure(upload().put("key", body, { ifAbsent: true }))).tag).toBe("Conflict")
    expect((await failure(upload().put("key", body, { ifMatch: '"other"' }))).tag).toBe("Conflict")
    expect(seen.map(({ method }) => method)).toEqual(["HEAD", "HEAD", "HEAD"])
  })

  it("notices a file that shrinks", async () => {
    const file = join(directory, "shrinks")
    await writeFile(file, body)
    const create: Answer = (response, request) => {
      truncate(file, MIB).then(() => script([])(response, request))
    }
    answers = [script([{ step: "create", answer: create }])]
    expect((await failure(upload().put("key", { file }))).tag).toBe("Corrupt")
    expect(steps()).toContain("abort")
  })
})
