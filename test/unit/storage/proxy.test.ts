import { readFileSync } from "node:fs"
import { createServer as createHttpServer } from "node:http"
import { createServer as createHttpsServer } from "node:https"
import type { AddressInfo } from "node:net"
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest"
import { openStore } from "../../../src/storage/open.js"
import { proxyFor } from "../../../src/storage/proxy.js"
import type { S3Settings } from "../../../src/storage/s3-client.js"
import { type HttpProxy, startHttpProxy } from "../../servers/http-proxy.js"
import { fromRoot } from "../../support/paths.js"

const CERTIFICATE = fromRoot("test/fixtures/tls/certificate.pem")
const KEY = fromRoot("test/fixtures/tls/key.pem")

beforeEach(() => {
  for (const name of ["http_proxy", "https_proxy", "all_proxy", "no_proxy"])
    for (const variable of [name, name.toUpperCase()]) vi.stubEnv(variable, "")
})
const closers: (() => Promise<unknown>)[] = []
afterEach(async () => {
  vi.unstubAllEnvs()
  await Promise.all(closers.splice(0).map((close) => close()))
})

async function startStore(scheme: "http" | "https"): Promise<string> {
  const tls = { key: readFileSync(KEY), cert: readFileSync(CERTIFICATE) }
  const answer: Parameters<typeof createHttpServer>[1] = (_, response) =>
    void response.writeHead(200, { etag: '"e"' }).end("body")
  const server = scheme === "http" ? createHttpServer({}, answer) : createHttpsServer(tls, answer)
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  closers.push(async () => {
    server.closeAllConnections()
    server.close()
  })
  return `${scheme}://127.0.0.1:${(server.address() as AddressInfo).port}`
}

async function startProxy(...options: Parameters<typeof startHttpProxy>): Promise<HttpProxy> {
  const proxy = await startHttpProxy(...options)
  closers.push(proxy.close)
  return proxy
}

async function read(endpoint: string, settings: Partial<S3Settings> = {}): Promise<string | undefined> {
  const credentials = { accessKeyId: "key-of-tests", secretAccessKey: "secret" }
  const s3 = { endpoint, region: "us-east-1", credentials, ...settings }
  const store = openStore("s3://bucket", { s3, retry: { attempts: 1 } })
  try {
    const object = await store.get("key")
    return object && Buffer.from(object.body).toString()
  } finally {
    store.close()
  }
}

describe("requests through a proxy", () => {
  it("go there for http, by the option", async () => {
    const [endpoint, proxy] = [await startStore("http"), await startProxy()]
    expect(await read(endpoint, { proxy: proxy.url })).toBe("body")
    expect(proxy.seen).toEqual([`GET ${endpoint}/bucket/key?x-id=GetObject`])
  })

  it("go through a tunnel for https, by the environment; the file of authorities is for the store", async () => {
    const [endpoint, proxy] = [await startStore("https"), await startProxy()]
    vi.stubEnv("HTTPS_PROXY", proxy.url)
    expect(await read(endpoint, { caFile: CERTIFICATE })).toBe("body")
    expect(proxy.seen).toEqual([`CONNECT ${new URL(endpoint).host}`])
    await expect(read(endpoint)).rejects.toThrow(/certificate/i)
  })

  it("tell the proxy who we are, and the caller that it asks", async () => {
    const proxy = await startProxy({ user: "ada:lovelace" })
    const withUser = proxy.url.replace("http://", "http://ada:lovelace@")
    for (const scheme of ["http", "https"] as const) {
      const endpoint = await startStore(scheme)
      expect(await read(endpoint, { caFile: CERTIFICATE, proxy: withUser })).toBe("body")
      const refused = await read(endpoint, { caFile: CERTIFICATE, proxy: proxy.url }).catch(String)
      expect(refused).toContain("put user and password into its URL")
    }
    expect(proxy.seen.filter((text) => text.endsWith("ada:lovelace"))).toHaveLength(2)
  })

  it("go directly where the environment or the option says so", async () => {
    const [endpoint, proxy] = [await startStore("http"), await startProxy()]
    vi.stubEnv("HTTP_PROXY", proxy.url)
    expect(await read(endpoint, { proxy: false })).toBe("body")
    vi.stubEnv("NO_PROXY", "127.0.0.1")
    expect(await read(endpoint)).toBe("body")
    expect(proxy.seen).toEqual([])
    vi.stubEnv("NO_PROXY", "")
    expect(await read(endpoint)).toBe("body")
    expect(proxy.seen).toHaveLength(1)
  })
})

it("authorities may come from AWS_CA_BUNDLE, and a file that is not there is named", async () => {
  const endpoint = await startStore("https")
  vi.stubEnv("AWS_CA_BUNDLE", CERTIFICATE)
  expect(await read(endpoint)).toBe("body")
  await expect(read(endpoint, { caFile: "/no/such/file.pem" })).rejects.toThrow("/no/such/file.pem")
})

describe("proxyFor", () => {
  it("refuses what is no proxy for http, and does not repeat its password", async () => {
    await expect(proxyFor("https://s3", "socks5://ada:lovelace@proxy")).rejects.toThrow(
      "option s3.proxy must be an http:// or https:// URL, found socks5://...",
    )
    vi.stubEnv("ALL_PROXY", "socks5://ada:lovelace@proxy")
    const said = await proxyFor("https://s3", undefined).catch(String)
    expect(said).toContain("found socks5://...")
    expect(said).not.toContain("lovelace")
  })
})
