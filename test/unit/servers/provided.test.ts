import { ListObjectsV2Command, PutObjectCommand, S3Client } from "@aws-sdk/client-s3"
import { afterAll, expect, inject, test } from "vitest"

// The server of the run, whichever it is: created by the global setup, found by its environment alone.
const { endpoint, bucket } = inject("s3")
const client = new S3Client({ forcePathStyle: true })
afterAll(() => client.destroy())

test("the environment of tests leads to the provided server", async () => {
  expect(process.env.AWS_ENDPOINT_URL_S3).toBe(endpoint)
  expect(process.env.AWS_EC2_METADATA_DISABLED).toBe("true")
  await client.send(new PutObjectCommand({ Bucket: bucket, Key: "provided/a", Body: "1" }))
  const page = await client.send(new ListObjectsV2Command({ Bucket: bucket, Prefix: "provided/" }))
  expect(page.Contents?.map((object) => object.Key)).toEqual(["provided/a"])
})
