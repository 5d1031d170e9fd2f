/** The wire format of S3 where the AWS SDK can't be made to send it: odd, malformed and unsupported requests. */
import { createHash } from "node:crypto"
import { connect } from "node:net"
import fc from "fast-check"
import { afterAll, beforeAll, expect, test } from "vitest"
import { type S3Server, startS3Server } from "../../servers/s3-server.js"
import { decodeAwsChunked, parseRange, parseTarget, xmlDocument, xmlText } from "../../servers/s3-wire.js"

let server: S3Server
beforeAll(async () => {
  server = await startS3Server({ buckets: ["b"] })
})
afterAll(() => server.close())

async function send(method: string, path: string, headers: Record<string, string> = {}, body?: string) {
  const response = await fetch(server.endpoint + path, {
    method,
    headers,
    ...(body !== undefined && { body }),
  })
  const text = await response.text()
  return { status: response.status, code: xmlText(text, "Code"), text }
}

const hash = (algorithm: string, text: string) => createHash(algorithm).update(text)

test("any content survives aws-chunked, however it is cut", () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ minLength: 1 })), fc.boolean(), (chunks, signed) => {
      const extension = signed ? ";chunk-signature=abc" : ""
      const framed = chunks.flatMap((chunk) => [
        Buffer.from(`${chunk.length.toString(16)}${extension}\r\n`),
        chunk,
        Buffer.from("\r\n"),
      ])
      const end = Buffer.from(`0${extension}\r\nx-amz-checksum-crc32:AAAA\r\n\r\n`)
      expect(decodeAwsChunked(Buffer.concat([...framed, end]))).toEqual({
        content: Buffer.concat(chunks),
        trailers: { "x-amz-checksum-crc32": "AAAA" },
      })
    }),
  )
})

test.each(["", "5\r\nabc", "5\r\nabc\r\n0\r\n\r\n", "x\r\n", "3\r\nabcd\r\n0\r\n\r\n"])(
  "aws-chunked that is malformed is refused: %j",
  async (body) => {
    const headers = { "x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER" }
    expect(await send("PUT", "/b/chunked", headers, body)).toMatchObject({
      status: 400,
      code: "IncompleteBody",
    })
    expect((await send("GET", "/b/chunked")).status).toBe(404)
  },
)

test.each([
  ["a trailer that is wrong", "3\r\nabc\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n", {}, "BadDigest"],
  ["a trailer that is missing", "3\r\nabc\r\n0\r\n\r\n", {}, "MalformedTrailerError"],
  [
    "another length than announced",
    "3\r\nabc\r\n0\r\nx-amz-checksum-crc32:NSRBwg==\r\n\r\n",
    { "x-amz-decoded-content-length": "4" },
    "IncompleteBody",
  ],
])("aws-chunked with %s is refused", async (_name, body, more, code) => {
  const headers = {
    "x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
    "x-amz-trailer": "x-amz-checksum-crc32",
    ...more,
  }
  expect(await send("PUT", "/b/trailer", headers, body)).toMatchObject({ status: 400, code })
})

test.each([
  ["Content-MD5", { "content-md5": hash("md5", "x").digest("base64") }, "BadDigest"],
  ["SHA-1", { "x-amz-checksum-sha1": hash("sha1", "x").digest("base64") }, "BadDigest"],
  ["SHA-256", { "x-amz-checksum-sha256": hash("sha256", "x").digest("base64") }, "BadDigest"],
  ["CRC-32", { "x-amz-checksum-crc32": "AAAAAA==" }, "BadDigest"],
  [
    "the signed SHA-256",
    { "x-amz-content-sha256": hash("sha256", "x").digest("hex") },
    "XAmzContentSHA256Mismatch",
  ],
])("a wrong checksum is refused: %s", async (_name, headers, code) => {
  expect(await send("PUT", "/b/sum", headers, "abc")).toMatchObject({ status: 400, code })
  expect((await send("GET", "/b/sum")).status).toBe(404)
})

test("the right checksums are accepted", async () => {
  const headers = {
    "content-md5": hash("md5", "abc").digest("base64"),
    "x-amz-checksum-sha1": hash("sha1", "abc").digest("base64"),
    "x-amz-checksum-crc32": "NSRBwg==",
    "x-amz-content-sha256": hash("sha256", "abc").digest("hex"),
  }
  expect((await send("PUT", "/b/right", headers, "abc")).status).toBe(200)
})

test.each([
  ["GET", "/b?list-type=1", {}],
  ["GET", "/b/k?acl", {}],
  ["GET", "/b/k?versionId=1", {}],
  ["PUT", "/b/k?tagging", {}],
  ["PATCH", "/b/k", {}],
  ["PUT", "/b/k", { "x-amz-copy-source": "/b/other" }],
  ["PUT", "/b/k", { "x-amz-checksum-crc32c": "AAAAAA==" }],
  ["PUT", "/b/k", { "if-none-match": '"etag"' }],
  ["DELETE", "/b/k", { "if-match": '"etag"' }],
])("what is not implemented is refused, not ignored: %s %s %o", async (method, path, headers) => {
  const body = method === "PUT" ? "x" : undefined
  expect(await send(method, path, headers, body)).toMatchObject({ status: 501, code: "NotImplemented" })
})

test("a condition on the date is refused, not ignored", async () => {
  await send("PUT", "/b/dated", {}, "x")
  const headers = { "if-modified-since": new Date().toUTCString() }
  expect(await send("GET", "/b/dated", headers)).toMatchObject({ status: 501 })
})

test("keys of 1024 bytes are the longest", async () => {
  expect((await send("PUT", `/b/${"k".repeat(1024)}`, {}, "x")).status).toBe(200)
  const longer = await send("PUT", `/b/${"k".repeat(1023)}%C3%A9`, {}, "x")
  expect(longer).toMatchObject({ status: 400, code: "KeyTooLongError" })
})

test("DeleteObjects without a checksum is refused", async () => {
  const body = "<Delete><Object><Key>k</Key></Object></Delete>"
  expect(await send("POST", "/b?delete", {}, body)).toMatchObject({ status: 400, code: "InvalidRequest" })
})

test("requests without credentials are refused where an access key is set", async () => {
  const strict = await startS3Server({ buckets: ["b"], accessKeyId: "key" })
  try {
    const response = await fetch(`${strict.endpoint}/b/k`)
    expect(response.status).toBe(403)
    expect(xmlText(await response.text(), "Code")).toBe("AccessDenied")
  } finally {
    await strict.close()
  }
})

/** Sends bytes as they are and gives back what comes until the connection ends. */
function raw(text: string, hangUp: boolean): Promise<string> {
  return new Promise((resolve, reject) => {
    const { port } = new URL(server.endpoint)
    const socket = connect(Number(port), "127.0.0.1", () => (hangUp ? socket.end(text) : socket.write(text)))
    let answer = ""
    socket.on("data", (chunk) => {
      answer += chunk
    })
    socket.on("error", reject)
    socket.on("close", () => resolve(answer))
  })
}

test("a body of unannounced length is refused", async () => {
  const request =
    "PUT /b/k HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
  expect(await raw(request, false)).toMatch(/^HTTP\/1.1 411 /)
})

test("a body that is cut off is not stored", async () => {
  await raw("PUT /b/cut HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345", true)
  expect((await send("GET", "/b/cut")).status).toBe(404)
})

test("dots and double slashes are ordinary parts of keys", () => {
  const parts = ({ bucket, key }: { bucket: string; key: string }) => [bucket, key]
  expect(parts(parseTarget("/b/a/../c//d/./e?x-id=1"))).toEqual(["b", "a/../c//d/./e"])
  expect(parts(parseTarget("/b/a%2Fb+c%20d"))).toEqual(["b", "a/b+c d"])
  expect(parts(parseTarget("/b/"))).toEqual(["b", ""])
  expect(() => parseTarget("/b/%ff")).toThrow("not valid percent-encoded UTF-8")
})

test.each(["bytes=5-2", "bytes=-", "bytes=0-1,3-4", "lines=0-1", undefined])(
  "the range %j is ignored",
  (header) => {
    expect(parseRange(header, 10)).toBeUndefined()
  },
)

test("any text survives XML", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), (text) => {
      expect(xmlText(xmlDocument("Key", text).toString(), "Key")).toBe(text)
    }),
  )
})
