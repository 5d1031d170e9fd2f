import { randomUUID } from "node:crypto"
import { describe, expect, inject, it } from "vitest"
import { isLasting } from "../../src/errors.js"
import { openS3Store } from "../../src/storage/s3.js"
import type { S3Settings } from "../../src/storage/s3-client.js"
import { bytes, errorOf, keysOf, storeContract, tagOf, text } from "./store-suite.js"

// Else the SDK may ask a link-local address for credentials.
process.env.AWS_EC2_METADATA_DISABLED = "true"

const MIB = 1024 * 1024
const s3 = inject("s3")
const { accessKeyId, secretAccessKey } = s3
const settings: S3Settings = {
  endpoint: s3.endpoint,
  region: s3.region,
  credentials: { accessKeyId, secretAccessKey },
  partBytes: 5 * MIB,
}
const open = () => openS3Store(s3.bucket, `contract/${randomUUID()}`, settings)

storeContract(`S3 (${s3.name})`, open, {
  lacks: s3.lacks,
  // The last size in one request, one more byte, and several parts.
  largeBytes: [5 * MIB, 5 * MIB + 1, 22 * MIB],
})

describe(`S3 store (${s3.name})`, () => {
  it("keeps to its prefix", async () => {
    const prefix = `contract/${randomUUID()}`
    const store = openS3Store(s3.bucket, prefix, settings)
    const beside = openS3Store(s3.bucket, `${prefix}-beside`, settings)
    await beside.put("key", bytes("beside"))
    await store.put("key", bytes("inside"))
    expect(store.url).toBe(`s3://${s3.bucket}/${prefix}`)
    expect(await keysOf(store.list(""))).toEqual(["key"])
    const whole = openS3Store(s3.bucket, "", settings)
    expect(text((await whole.get(`${prefix}/key`))?.body)).toBe("inside")
    expect(await keysOf(whole.list(prefix))).toEqual([`${prefix}-beside/key`, `${prefix}/key`])
  })

  it("names a bucket that does not exist", async () => {
    const store = openS3Store("vecsnap-no-such-bucket", "", settings)
    const calls = [
      () => store.get("key"),
      () => store.put("key", bytes("x")),
      () => keysOf(store.list("")),
      () => store.delete(["key"]),
    ]
    for (const call of calls) {
      const error = await errorOf(call())
      expect(await tagOf(Promise.reject(error))).toBe("NotFound")
      expect(String(error)).toContain("vecsnap-no-such-bucket")
    }
  })

  it.skipIf(s3.lacks.includes("credentials"))(
    "names bucket and permission, and no secret, when refused",
    async () => {
      const credentials = { accessKeyId: "nobody", secretAccessKey: "not the secret access key" }
      const store = openS3Store(s3.bucket, "", { ...settings, credentials })
      const error = await errorOf(store.put("key", bytes("x")))
      expect(isLasting(error)).toBe(true)
      expect(String(error)).toContain("s3:PutObject")
      expect(String(error)).toContain(s3.bucket)
      expect(String(error)).not.toContain("not the secret")
    },
  )

  it("sends the SDK's own checksums if asked to", async () => {
    const store = openS3Store(s3.bucket, `contract/${randomUUID()}`, {
      ...settings,
      requestChecksums: "when-supported",
    })
    await store.put("small", bytes("x"))
    await store.put("large", new Uint8Array(6 * MIB))
    expect((await store.get("large"))?.size).toBe(6 * MIB)
    expect(await store.delete(["small", "large"])).toEqual([])
  })
})
