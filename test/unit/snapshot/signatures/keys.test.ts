import { generateKeyPairSync } from "node:crypto"
import { writeFile } from "node:fs/promises"
import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { createKeyPair, loadSigningKeys, loadTrustedKeys } from "../../../../src/snapshot/signatures/keys.js"
import { withTempDir } from "../../../support/stores.js"

const A = createKeyPair()
const B = createKeyPair()
const load = { private: loadSigningKeys, public: loadTrustedKeys }

describe("keys", () => {
  it("are read from PEM and from files, several from one, each once", () =>
    withTempDir(async (dir) => {
      const file = join(dir, "both.pub")
      await writeFile(file, `old key\n${A.publicPem}\nnew key\n${B.publicPem}`)
      const ids = async (...given: string[]) =>
        (await loadTrustedKeys("trustedKeys", given)).map(({ id }) => id)
      expect(await ids(file)).toEqual([A.id, B.id])
      expect(await ids(A.publicPem, file, B.publicPem)).toEqual([A.id, B.id])
      await writeFile(join(dir, "a.key"), A.privatePem)
      const signing = await loadSigningKeys("signKey", [join(dir, "a.key"), B.privatePem])
      expect(signing.map(({ id }) => id)).toEqual([A.id, B.id])
      expect(A.id).toMatch(/^[0-9a-f]{16}$/)
    }))

  it("are not mistaken for one another", async () => {
    await expect(loadTrustedKeys("trustedKeys", [A.privatePem])).rejects.toMatchObject({
      tag: "InvalidInput",
      message: expect.stringContaining("is a private key, expected the public one"),
    })
    await expect(loadSigningKeys("signKey", A.publicPem)).rejects.toMatchObject({
      tag: "InvalidInput",
      message: expect.stringContaining("is a public key, expected the private one"),
    })
  })

  const pem = (type: "rsa" | "ec") => {
    const pair =
      type === "rsa"
        ? generateKeyPairSync("rsa", { modulusLength: 2048 })
        : generateKeyPairSync("ec", { namedCurve: "P-256" })
    return pair.privateKey.export({ type: "pkcs8", format: "pem" }).toString()
  }
  const encrypted = generateKeyPairSync("ed25519")
    .privateKey.export({ type: "pkcs8", format: "pem", cipher: "aes-256-cbc", passphrase: "x" })
    .toString()
  const damaged = A.privatePem.replace(/\n(.{20})/, `\n${"A".repeat(20)}`)
  it.each([
    ["private", "another type", pem("rsa"), "of type rsa, expected ed25519"],
    ["private", "a curve", pem("ec"), "of type ec, expected ed25519"],
    ["private", "one with a passphrase", encrypted, "decrypt it first"],
    ["private", "a damaged one", damaged, "is damaged"],
    ["private", "no key", "-----BEGIN PRIVATE KEY-----", "holds no key"],
    ["private", "an empty text", "", "is empty"],
    ["private", "a file that is not there", "/nowhere/a.key", "/nowhere/a.key"],
    ["public", "a certificate", A.publicPem.replaceAll("PUBLIC KEY", "CERTIFICATE"), '"BEGIN CERTIFICATE"'],
    ["public", "a file that is not there", "/nowhere/a.pub", "/nowhere/a.pub"],
  ] as const)("%s: %s is refused, and nothing of it repeated", async (kind, _what, given, said) => {
    const error = await load[kind]("theOption", [given]).then(
      () => undefined,
      (thrown) => thrown,
    )
    expect(error).toMatchObject({ tag: "InvalidInput", message: expect.stringContaining(said) })
    const body = given.split("\n")[1]
    if (body) expect(JSON.stringify([error.message, error.details, String(error.cause)])).not.toContain(body)
  })

  it("that are none at all are refused, so that nobody who asks for trust gets none", async () => {
    await expect(loadTrustedKeys("trustedKeys", [])).rejects.toThrow(/trustedKeys is an empty list/)
    await expect(loadTrustedKeys("trustedKeys", A.publicPem as never)).rejects.toThrow(
      /is a string, expected/,
    )
    const never = { key: A.publicPem, validUntil: new Date("never") }
    await expect(loadTrustedKeys("trustedKeys", [never])).rejects.toThrow(/validUntil/)
  })
})
