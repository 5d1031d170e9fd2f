import { expect, test } from "vitest"
import { decodePointer, encodePointer, isPointer } from "../../../../src/manifest/shardyfusion/pointer.js"

const REF = "s3://bkt/p/manifests/2026-11-21T02:34:30.479413Z_run_id=R/manifest"
const FIELDS = {
  manifest_content_type: "application/x-sqlite3",
  manifest_ref: REF,
  run_id: "R",
  updated_at: "2026-11-21T02:34:30.479598Z",
}
const decode = (document: unknown) =>
  decodePointer({
    body: Buffer.from(typeof document === "string" ? document : JSON.stringify(document)),
    etag: "e",
    size: 1,
    lastModified: new Date(0),
  })

test("is written as the reference writes it", () => {
  expect(encodePointer("R", REF, new Date("2026-11-21T02:34:30.479Z")).toString()).toBe(
    `{"format_version":1,"manifest_content_type":"application/x-sqlite3","manifest_ref":"${REF}","run_id":"R","updated_at":"2026-11-21T02:34:30.479000Z"}`,
  )
})

test("is read with what it must have, whatever else it has", () => {
  const expected = {
    run: "R",
    manifest: REF.slice("s3://bkt/p/".length),
    publishedAt: new Date("2026-11-21T02:34:30.479Z"),
  }
  expect(decode(FIELDS)).toMatchObject(expected)
  expect(decode({ ...FIELDS, format_version: 99, later: {} })).toMatchObject(expected)
  expect(decode({ ...FIELDS, manifest_content_type: "any" })).toMatchObject(expected)
})

test.each<[string, unknown]>([
  ...Object.keys(FIELDS).map(
    (name) => [`without ${name}`, { ...FIELDS, [name]: undefined }] as [string, unknown],
  ),
  ["with a run that is a number", { ...FIELDS, run_id: 1 }],
  ["with another time", { ...FIELDS, updated_at: "now" }],
  ["that is a list", []],
  ["that is no JSON", "{"],
])("is damaged %s", (_, document) => {
  expect(() => decode(document)).toThrow(expect.objectContaining({ tag: "Corrupt" }))
})

test("is told from other pointers by two of its properties", () => {
  const is = (document: object) => isPointer(Buffer.from(JSON.stringify(document)))
  expect(is({ manifest_content_type: "", manifest_ref: "" })).toBe(true)
  expect(is({ manifest_ref: "" })).toBe(false)
  expect(isPointer(Buffer.from("{"))).toBe(false)
})
