/**
 * What our in-process S3 server does, seen through the AWS SDK. The same tests run on the server of this test run, so
 * that a run with MinIO, LocalStack or versitygw shows that ours behaves as they do.
 */
import { createHash, randomBytes, randomUUID } from "node:crypto"
import { Readable } from "node:stream"
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateBucketCommand,
  CreateMultipartUploadCommand,
  DeleteBucketCommand,
  DeleteObjectCommand,
  DeleteObjectsCommand,
  GetObjectCommand,
  HeadBucketCommand,
  HeadObjectCommand,
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  ListPartsCommand,
  PutObjectCommand,
  S3Client,
  UploadPartCommand,
} from "@aws-sdk/client-s3"
import { afterAll, beforeAll, describe, expect, inject, test } from "vitest"
import { type S3Server, startS3Server } from "../../servers/s3-server.js"

const provided = inject("s3")
const md5 = (bytes: Uint8Array) => createHash("md5").update(bytes).digest()
const quoted = (hex: string) => `"${hex}"`

/** Status and error code of a request that the server refuses. */
async function refusal(request: Promise<unknown>): Promise<{ status: number | undefined; code: string }> {
  const answer = await request.then(
    () => undefined,
    (error) => error,
  )
  if (answer === undefined) throw new Error("expected a refusal, the request succeeded")
  return { status: answer.$metadata?.httpStatusCode, code: answer.name }
}

async function statusOf(request: Promise<unknown>): Promise<number | undefined> {
  return (await refusal(request)).status
}

describe.each(["in-process", ...(provided.name === "in-process" ? [] : [provided.name])])("%s", (name) => {
  // What a real server is known not to do is shown as skipped, by name.
  const lacking = name === "in-process" ? [] : provided.lacks
  const testUnlessLacking = (capability: string) => test.skipIf(lacking.includes(capability))
  let own: S3Server | undefined
  let client: S3Client
  let bucket: string

  beforeAll(async () => {
    if (name === "in-process") own = await startS3Server({ accessKeyId: "key" })
    client = new S3Client({
      endpoint: own?.endpoint ?? provided.endpoint,
      region: provided.region,
      credentials: own
        ? { accessKeyId: "key", secretAccessKey: "secret" }
        : { accessKeyId: provided.accessKeyId, secretAccessKey: provided.secretAccessKey },
      forcePathStyle: true,
      maxAttempts: 1,
    })
    bucket = own ? "own" : provided.bucket
    if (own) await client.send(new CreateBucketCommand({ Bucket: bucket }))
  })
  afterAll(async () => {
    client.destroy()
    await own?.close()
  })

  const put = (key: string, body: string | Uint8Array, more: object = {}) =>
    client.send(new PutObjectCommand({ Bucket: bucket, Key: key, Body: body, ...more }))
  const get = (key: string, more: object = {}) =>
    client.send(new GetObjectCommand({ Bucket: bucket, Key: key, ...more }))
  const head = (key: string) => client.send(new HeadObjectCommand({ Bucket: bucket, Key: key }))
  const textOf = async (key: string) => (await get(key)).Body!.transformToString()
  const freshKey = () => `t/${randomUUID()}`

  describe("buckets", () => {
    test("are created once, found and removed when empty", async () => {
      const fresh = { Bucket: `bucket-${randomUUID().slice(0, 8)}` }
      expect(await statusOf(client.send(new HeadBucketCommand(fresh)))).toBe(404)
      await client.send(new CreateBucketCommand(fresh))
      await client.send(new HeadBucketCommand(fresh))
      await client.send(new PutObjectCommand({ ...fresh, Key: "a", Body: "0" }))
      expect(await refusal(client.send(new DeleteBucketCommand(fresh)))).toEqual({
        status: 409,
        code: "BucketNotEmpty",
      })
      await client.send(new DeleteObjectCommand({ ...fresh, Key: "a" }))
      await client.send(new DeleteBucketCommand(fresh))
      expect(await statusOf(client.send(new HeadBucketCommand(fresh)))).toBe(404)
    })

    test("that do not exist refuse reads and writes", async () => {
      const at = { Bucket: "no-such-bucket-here", Key: "a" }
      const refused = { status: 404, code: "NoSuchBucket" }
      expect(await refusal(client.send(new GetObjectCommand(at)))).toEqual(refused)
      expect(await refusal(client.send(new PutObjectCommand({ ...at, Body: "x" })))).toEqual(refused)
      expect(await refusal(client.send(new ListObjectsV2Command({ Bucket: at.Bucket })))).toEqual(refused)
    })
  })

  describe("objects", () => {
    test("come back as written, with exact length, MD5 as ETag, type and metadata", async () => {
      const [key, body] = [freshKey(), randomBytes(100_000)]
      const written = await put(key, body, { ContentType: "text/x-test", Metadata: { run: "7" } })
      const etag = quoted(md5(body).toString("hex"))
      expect(written.ETag).toBe(etag)
      const read = await get(key)
      expect(Buffer.from(await read.Body!.transformToByteArray()).equals(body)).toBe(true)
      const facts = { ContentLength: 100_000, ETag: etag, ContentType: "text/x-test", Metadata: { run: "7" } }
      expect(read).toMatchObject(facts)
      const found = await head(key)
      expect(found).toMatchObject(facts)
      expect(Math.abs(Date.now() - found.LastModified!.getTime())).toBeLessThan(60_000)
    })

    test("may be empty", async () => {
      const key = freshKey()
      await put(key, Buffer.alloc(0))
      expect((await head(key)).ContentLength).toBe(0)
      expect(await textOf(key)).toBe("")
      expect(await statusOf(get(key, { Range: "bytes=0-0" }))).toBe(416)
    })

    test("that are missing are 404 to read and nothing to delete", async () => {
      const at = { Bucket: bucket, Key: freshKey() }
      expect(await refusal(client.send(new GetObjectCommand(at)))).toEqual({ status: 404, code: "NoSuchKey" })
      expect(await statusOf(client.send(new HeadObjectCommand(at)))).toBe(404)
      const removed = await client.send(new DeleteObjectCommand(at))
      expect(removed.$metadata.httpStatusCode).toBe(204)
    })

    test.each(["a b+c&d", "<x>'\"&amp;", "ünï/コード/𝒳", "per%20cent", "?q=1#f", "semi;colon,=@:!$()*~"])(
      "have keys like %s",
      async (odd) => {
        const key = `${freshKey()}/${odd}`
        await put(key, odd)
        expect(await textOf(key)).toBe(odd)
        const listed = await client.send(new ListObjectsV2Command({ Bucket: bucket, Prefix: key }))
        expect(listed.Contents?.map((object) => object.Key)).toEqual([key])
      },
    )
  })

  describe("ranges", () => {
    const key = freshKey()
    beforeAll(() => put(key, "0123456789"))

    test.each([
      ["bytes=0-0", "0", "bytes 0-0/10"],
      ["bytes=2-4", "234", "bytes 2-4/10"],
      ["bytes=7-", "789", "bytes 7-9/10"],
      ["bytes=-3", "789", "bytes 7-9/10"],
      ["bytes=8-99", "89", "bytes 8-9/10"],
      ["bytes=-99", "0123456789", "bytes 0-9/10"],
    ])("%s", async (range, text, contentRange) => {
      const read = await get(key, { Range: range })
      expect(await read.Body!.transformToString()).toBe(text)
      expect(read).toMatchObject({ ContentRange: contentRange, ContentLength: text.length })
      expect(read.$metadata.httpStatusCode).toBe(206)
    })

    test("past the end are refused", async () => {
      expect(await refusal(get(key, { Range: "bytes=10-" }))).toEqual({ status: 416, code: "InvalidRange" })
    })
  })

  describe("preconditions", () => {
    test("If-None-Match: * creates once", async () => {
      const key = freshKey()
      await put(key, "first", { IfNoneMatch: "*" })
      const refused = { status: 412, code: "PreconditionFailed" }
      expect(await refusal(put(key, "second", { IfNoneMatch: "*" }))).toEqual(refused)
      expect(await textOf(key)).toBe("first")
    })

    test("If-Match replaces the version named, and no other", async () => {
      const key = freshKey()
      const { ETag: first } = await put(key, "first")
      await put(key, "second", { IfMatch: first })
      const refused = { status: 412, code: "PreconditionFailed" }
      expect(await refusal(put(key, "third", { IfMatch: first }))).toEqual(refused)
      expect(await textOf(key)).toBe("second")
    })

    test("If-Match on a missing key is 404", async () => {
      const request = put(freshKey(), "x", { IfMatch: quoted("0".repeat(32)) })
      expect(await refusal(request)).toEqual({ status: 404, code: "NoSuchKey" })
    })

    test("of 20 racing writers one wins, creating and replacing", async () => {
      const key = freshKey()
      for (const condition of [() => ({ IfNoneMatch: "*" }), (etag: string) => ({ IfMatch: etag })]) {
        const before = condition.length === 0 ? "" : (await head(key)).ETag!
        const outcomes = await Promise.allSettled(
          Array.from({ length: 20 }, (_, i) => put(key, `${before} by ${i}`, condition(before))),
        )
        const winners = outcomes.flatMap((outcome, i) => (outcome.status === "fulfilled" ? [i] : []))
        expect(winners).toHaveLength(1)
        expect(await textOf(key)).toBe(`${before} by ${winners[0]}`)
      }
    })

    test("on reads: 304 for the version known, 412 for another one", async () => {
      const key = freshKey()
      const { ETag: etag } = await put(key, "x")
      expect(await statusOf(get(key, { IfNoneMatch: etag }))).toBe(304)
      expect(await statusOf(get(key, { IfMatch: quoted("0".repeat(32)) }))).toBe(412)
      const other = await get(key, { IfNoneMatch: quoted("0".repeat(32)), IfMatch: etag })
      expect(await other.Body!.transformToString()).toBe("x")
    })
  })

  describe("listing", () => {
    const list = (more: object) => client.send(new ListObjectsV2Command({ Bucket: bucket, ...more }))
    const root = `list-${randomUUID()}/`
    // By UTF-8 bytes "～" (EF BD 9E) comes before "𝒳" (F0 9D…); by UTF-16 units, JavaScript's order, after it.
    const names = [
      "",
      "!",
      "+",
      "A",
      "Z",
      "a b",
      "a/1",
      "a/2",
      "a0",
      "b/x/1",
      "b/y",
      "z",
      "é",
      "～",
      "𝒳",
    ].map((n) => `k${n}`)
    const keys = names.map((one) => root + one)
    beforeAll(async () => {
      for (const [i, key] of [...keys].reverse().entries()) await put(key, "x".repeat(i))
    })

    test("is by the bytes of the key, with size, ETag and time", async () => {
      const page = await list({ Prefix: root })
      expect(page.Contents?.map((object) => object.Key)).toEqual(keys)
      expect(page).toMatchObject({ IsTruncated: false, KeyCount: keys.length })
      const first = page.Contents![0]!
      const body = Buffer.from("x".repeat(keys.length - 1))
      expect(first).toMatchObject({ Size: body.length, ETag: quoted(md5(body).toString("hex")) })
      expect(first.LastModified).toBeInstanceOf(Date)
    })

    test.each([1, 2, 3, 7])("in pages of %i misses and repeats nothing", async (size) => {
      const found: (string | undefined)[] = []
      let token: string | undefined
      do {
        const page = await list({ Prefix: root, MaxKeys: size, ContinuationToken: token })
        // The last page may be empty: not every server looks ahead.
        const contents = page.Contents ?? []
        expect(contents.length).toBeLessThanOrEqual(size)
        found.push(...contents.map((object) => object.Key))
        token = page.NextContinuationToken
        expect(page.IsTruncated).toBe(token !== undefined)
      } while (token !== undefined)
      expect(found).toEqual(keys)
    })

    test("starts after a key, which need not exist", async () => {
      const after = async (key: string) =>
        (await list({ Prefix: root, StartAfter: key })).Contents?.map((object) => object.Key)
      expect(await after(`${root}kA`)).toEqual(keys.slice(keys.indexOf(`${root}kA`) + 1))
      expect(await after(`${root}kZZ`)).toEqual(keys.slice(keys.indexOf(`${root}ka b`)))
      expect(await after(`${root}k𝒳`)).toBeUndefined()
    })

    test.each([1000, 1, 2])("folds by delimiter, in pages of %i", async (size) => {
      const found: (string | undefined)[] = []
      let token: string | undefined
      do {
        const page = await list({ Prefix: root, Delimiter: "/", MaxKeys: size, ContinuationToken: token })
        const entries = [
          ...(page.Contents ?? []).map((o) => o.Key),
          ...(page.CommonPrefixes ?? []).map((p) => p.Prefix),
        ]
        expect(entries.length).toBeLessThanOrEqual(size)
        found.push(...entries)
        token = page.NextContinuationToken
      } while (token !== undefined)
      const folded = [
        ...keys.filter((key) => !key.slice(root.length).includes("/")),
        `${root}ka/`,
        `${root}kb/`,
      ]
      expect([...found].sort()).toEqual(folded.sort())
    })

    testUnlessLacking("encoding-type")("can encode keys for XML", async () => {
      const page = await list({ Prefix: `${root}k`, EncodingType: "url" })
      const encode = (key: string) => encodeURIComponent(key).replaceAll("%2F", "/")
      // Servers differ in how they write a space and a few signs; decoding gives the key on all of them.
      const decoded = page.Contents!.map((object) => decodeURIComponent(object.Key!.replaceAll("+", "%20")))
      expect(decoded).toEqual(keys)
      expect(page.Contents!.map((object) => object.Key)).toContain(encode(`${root}k𝒳`))
    })

    testUnlessLacking("keys-below-keys")("includes keys below a key", async () => {
      const key = freshKey()
      await put(key, "1")
      await put(`${key}/below`, "2")
      expect((await list({ Prefix: key })).Contents?.map((object) => object.Key)).toEqual([
        key,
        `${key}/below`,
      ])
    })

    test("of nothing is empty", async () => {
      expect(await list({ Prefix: `${root}nothing` })).toMatchObject({ KeyCount: 0, IsTruncated: false })
    })

    test("gives 1000 keys per page at most", async () => {
      const many = `many-${randomUUID()}/`
      const wanted = Array.from({ length: 1005 }, (_, i) => `${many}${String(i).padStart(4, "0")}`)
      for (let i = 0; i < wanted.length; i += 50) {
        await Promise.all(wanted.slice(i, i + 50).map((key) => put(key, "0")))
      }
      const first = await list({ Prefix: many })
      expect(first.Contents?.map((object) => object.Key)).toEqual(wanted.slice(0, 1000))
      const rest = await list({ Prefix: many, ContinuationToken: first.NextContinuationToken })
      expect(rest.Contents?.map((object) => object.Key)).toEqual(wanted.slice(1000))
    })
  })

  describe("deleting many", () => {
    const remove = (keys: string[], quiet: boolean) =>
      client.send(
        new DeleteObjectsCommand({
          Bucket: bucket,
          Delete: { Quiet: quiet, Objects: keys.map((Key) => ({ Key })) },
        }),
      )

    test("reports each key, missing ones too", async () => {
      const [key, missing] = [`${freshKey()}&<`, freshKey()]
      await put(key, "1")
      const answer = await remove([key, missing], false)
      expect(answer.Deleted?.map((one) => one.Key).sort()).toEqual([key, missing].sort())
      expect(await statusOf(get(key))).toBe(404)
    })

    testUnlessLacking("quiet-delete")("says nothing when quiet", async () => {
      const key = freshKey()
      await put(key, "1")
      const answer = await remove([key], true)
      expect([answer.Deleted ?? [], answer.Errors ?? []]).toEqual([[], []])
      expect(await statusOf(get(key))).toBe(404)
    })
  })

  describe("multipart uploads", () => {
    const create = async (key: string) =>
      (await client.send(new CreateMultipartUploadCommand({ Bucket: bucket, Key: key }))).UploadId!
    const upload = async (key: string, id: string, number: number, body: Uint8Array) => {
      const at = { Bucket: bucket, Key: key, UploadId: id, PartNumber: number }
      return {
        PartNumber: number,
        ETag: (await client.send(new UploadPartCommand({ ...at, Body: body }))).ETag!,
      }
    }
    const complete = (
      key: string,
      id: string,
      parts: { PartNumber: number; ETag: string }[],
      more: object = {},
    ) =>
      client.send(
        new CompleteMultipartUploadCommand({
          ...{ Bucket: bucket, Key: key, UploadId: id },
          MultipartUpload: { Parts: parts },
          ...more,
        }),
      )
    const part = randomBytes(5 * 1024 * 1024)
    const tail = randomBytes(1000)

    test("join parts by number; the ETag is the MD5 of MD5s", async () => {
      const key = freshKey()
      const id = await create(key)
      const second = await upload(key, id, 2, tail)
      const first = await upload(key, id, 1, part)
      const listed = await client.send(new ListPartsCommand({ Bucket: bucket, Key: key, UploadId: id }))
      expect(listed.Parts?.map((one) => [one.PartNumber, one.Size])).toEqual([
        [1, part.length],
        [2, tail.length],
      ])
      expect(await statusOf(get(key))).toBe(404)
      const done = await complete(key, id, [first, second])
      const etag = quoted(`${md5(Buffer.concat([md5(part), md5(tail)])).toString("hex")}-2`)
      expect(done.ETag).toBe(etag)
      const read = await get(key)
      expect(read.ETag).toBe(etag)
      expect(md5(await read.Body!.transformToByteArray())).toEqual(md5(Buffer.concat([part, tail])))
    })

    test("honour preconditions when completed, and stay until aborted", async () => {
      const key = freshKey()
      // Before the upload: S3 may answer 409 when the object changes while one is under way.
      const { ETag: etag } = await put(key, "first")
      const id = await create(key)
      const parts = [await upload(key, id, 1, tail)]
      expect(await statusOf(complete(key, id, parts, { IfNoneMatch: "*" }))).toBe(412)
      expect(await statusOf(complete(key, id, parts, { IfMatch: quoted("0".repeat(32)) }))).toBe(412)
      expect(await textOf(key)).toBe("first")
      await complete(key, id, parts, { IfMatch: etag })
      expect((await head(key)).ContentLength).toBe(tail.length)
    })

    test("of 20 racing completions one wins", async () => {
      const key = freshKey()
      const uploads = await Promise.all(
        Array.from({ length: 20 }, async (_, i) => {
          const id = await create(key)
          return { id, parts: [await upload(key, id, 1, Buffer.from(`by ${i}`))] }
        }),
      )
      const outcomes = await Promise.allSettled(
        uploads.map(({ id, parts }) => complete(key, id, parts, { IfNoneMatch: "*" })),
      )
      const winners = outcomes.flatMap((outcome, i) => (outcome.status === "fulfilled" ? [i] : []))
      expect(winners).toHaveLength(1)
      expect(await textOf(key)).toBe(`by ${winners[0]}`)
    })

    test("that are aborted leave nothing", async () => {
      const key = freshKey()
      const id = await create(key)
      const parts = [await upload(key, id, 1, tail)]
      const open = async () =>
        (await client.send(new ListMultipartUploadsCommand({ Bucket: bucket, Prefix: key }))).Uploads ?? []
      expect((await open()).map((one) => [one.Key, one.UploadId])).toEqual([[key, id]])
      await client.send(new AbortMultipartUploadCommand({ Bucket: bucket, Key: key, UploadId: id }))
      expect(await open()).toEqual([])
      expect(await refusal(complete(key, id, parts))).toEqual({ status: 404, code: "NoSuchUpload" })
      expect(await statusOf(get(key))).toBe(404)
    })

    test("refuse parts that are unknown or too small", async () => {
      const key = freshKey()
      const id = await create(key)
      const [small, last] = [await upload(key, id, 1, tail), await upload(key, id, 2, part)]
      const unknown = { PartNumber: 3, ETag: small.ETag }
      expect(await refusal(complete(key, id, [unknown]))).toEqual({ status: 400, code: "InvalidPart" })
      expect(await refusal(complete(key, id, [small, last]))).toEqual({ status: 400, code: "EntityTooSmall" })
    })

    test("refuse parts out of order", async () => {
      const key = freshKey()
      const id = await create(key)
      const [first, second] = [await upload(key, id, 1, part), await upload(key, id, 2, part)]
      const order = await refusal(complete(key, id, [second, first]))
      expect(order).toEqual({ status: 400, code: "InvalidPartOrder" })
    })
  })

  describe("checksums", () => {
    // Of other content than the body's.
    const wrong = Buffer.from("other content")
    const sha256 = createHash("sha256").update(wrong).digest("base64")

    test.each([
      ["Content-MD5", { ContentMD5: md5(wrong).toString("base64") }],
      ["SHA-256", { ChecksumSHA256: sha256 }],
      ["CRC-32", { ChecksumCRC32: "AAAAAA==" }],
    ])("that are wrong are refused: %s", async (_name, checksum) => {
      const key = freshKey()
      expect(await statusOf(put(key, "content", checksum))).toBe(400)
      expect(await statusOf(get(key))).toBe(404)
    })

    test("that are right are kept and returned on demand", async () => {
      const key = freshKey()
      await put(key, "content", { ChecksumAlgorithm: "SHA256" })
      const read = await get(key, { ChecksumMode: "ENABLED" })
      expect(read.ChecksumSHA256).toBe(createHash("sha256").update("content").digest("base64"))
      expect(await read.Body!.transformToString()).toBe("content")
    })

    const stream = (key: string, body: Buffer, more: object = {}) => {
      const pieces = Array.from({ length: 20 }, (_, i) => body.subarray(i * 10_000, (i + 1) * 10_000))
      const sized = { Body: Readable.from(pieces), ContentLength: body.length }
      return client.send(new PutObjectCommand({ Bucket: bucket, Key: key, ...sized, ...more }))
    }

    test("come as a trailer with streams, which are decoded", async () => {
      const [key, body] = [freshKey(), randomBytes(200_000)]
      await stream(key, body)
      const read = await (await get(key)).Body!.transformToByteArray()
      expect(Buffer.from(read).equals(body)).toBe(true)
    })

    testUnlessLacking("content-encoding")("leave the content encoding as given", async () => {
      const [key, body] = [freshKey(), randomBytes(200_000)]
      await stream(key, body, { ContentEncoding: "x-test" })
      expect((await head(key)).ContentEncoding).toBe("x-test")
    })
  })

  testUnlessLacking("credentials-as-403")("access keys that are unknown are refused", async () => {
    const stranger = new S3Client({
      endpoint: own?.endpoint ?? provided.endpoint,
      region: provided.region,
      credentials: { accessKeyId: "stranger", secretAccessKey: "secret" },
      forcePathStyle: true,
      maxAttempts: 1,
    })
    const request = stranger.send(new GetObjectCommand({ Bucket: bucket, Key: "any" }))
    expect(await refusal(request)).toEqual({ status: 403, code: "InvalidAccessKeyId" })
    stranger.destroy()
  })
})
