import { randomUUID } from "node:crypto"
import { describe, expect, it } from "vitest"
import { run } from "../../cli/run.js"
import { lastingFault, unsupported } from "../../src/errors.js"
import {
  type Check,
  type Diagnosis,
  type DoctorOptions,
  diagnoseStore,
  type ObjectStore,
  openStore,
  type Verdict,
} from "../../src/index.js"
import { parseKey } from "../../src/manifest/keys.js"
import { openMemoryStore } from "../../src/storage/memory.js"
import { openS3Store } from "../../src/storage/s3.js"
import { wrapStore } from "../../src/storage/wrap-store.js"
import { type S3Server, startS3Server } from "../servers/s3-server.js"
import { finished, startCli } from "../support/cli.js"
import { s3Root, withTempDir } from "../support/stores.js"
import { captureIo } from "../unit/cli/capture.js"

async function keysIn(store: ObjectStore): Promise<string[]> {
  const keys: string[] = []
  for await (const { key } of store.list("")) keys.push(key)
  return keys
}

/** The checks that are not fine, by name; those that were left out are no finding. */
const findingsOf = ({ checks }: Diagnosis): Record<string, Verdict> =>
  Object.fromEntries(
    checks
      .filter(({ verdict }) => verdict === "warning" || verdict === "failed")
      .map(({ name, verdict }) => [name, verdict]),
  )

const checkOf = ({ checks }: Diagnosis, name: string): Check => {
  const found = checks.find((check) => check.name === name)
  if (found === undefined) throw new Error(`no check ${name}`)
  return found
}

const ALL_USES = "reading snapshots, building and publishing, history and collection (gc)"

describe("doctor finds nothing wrong with", () => {
  it("a store in memory", async () => {
    const store = openStore(`memory://${randomUUID()}`)
    await store.put("_CURRENT", new Uint8Array(3))
    const diagnosis = await diagnoseStore(store)
    expect(findingsOf(diagnosis)).toEqual({})
    expect(diagnosis).toMatchObject({ url: store.url, verdict: "ok" })
    expect(diagnosis.summary).toBe(`This store can be used for ${ALL_USES}.`)
    expect(checkOf(diagnosis, "multipart").verdict).toBe("skipped")
    expect(checkOf(diagnosis, "paging").finding).toMatch(/^1,050 keys/)
    expect(await keysIn(store)).toEqual(["_CURRENT"])
  })

  it("a local directory", () =>
    withTempDir(async (dir) => {
      const store = openStore(dir)
      expect(findingsOf(await diagnoseStore(store))).toEqual({})
      expect(await keysIn(store)).toEqual([])
    }))

  it("the S3 server of this run", async () => {
    const { url, store: options } = s3Root("doctor")
    const store = openStore(url, options)
    try {
      const diagnosis = await diagnoseStore(store)
      const { multipart, ...others } = findingsOf(diagnosis)
      expect(others).toEqual({})
      // LocalStack lets racing uploads in parts all win.
      expect(multipart ?? "ok").not.toBe("failed")
      expect(checkOf(diagnosis, "multipart").finding).toMatch(/reads back as written/)
      expect(await keysIn(store)).toEqual([])
    } finally {
      store.close()
    }
  })
})

type Faults = (inner: ObjectStore) => Partial<ObjectStore>

/** A store in memory that misbehaves, and the memory itself. */
function misbehaving(faults: Faults, url?: string): { inner: ObjectStore; store: ObjectStore } {
  const inner = openMemoryStore(randomUUID())
  const store = { ...wrapStore(inner, (_operation, call) => call()), ...faults(inner) }
  return { inner, store: url === undefined ? store : { ...store, url } }
}

const pause = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))
const refuse = (action: string) => (): Promise<never> =>
  Promise.reject(lastingFault(`${action} was refused`, { status: 403, code: "AccessDenied", action }))
const refuseList = (inner: ObjectStore): Partial<ObjectStore> => ({
  // biome-ignore lint/correctness/useYield: it fails before it could
  async *list() {
    await inner.head("x")
    await refuse("s3:ListBucket")()
  },
})
const hang = (): Promise<never> => new Promise(() => {})

async function* reordered(
  inner: ObjectStore,
  prefix: string,
  order: (keys: string[]) => string[],
): ReturnType<ObjectStore["list"]> & AsyncGenerator {
  const found = new Map<string, Awaited<ReturnType<ObjectStore["head"]>>>()
  for await (const object of inner.list(prefix)) found.set(object.key, object)
  for (const key of order([...found.keys()])) yield { key, ...found.get(key)! }
}

interface Case {
  readonly what: string
  readonly faults: Faults
  /** Exactly these checks are not fine. */
  readonly found: Record<string, Verdict>
  readonly finding: RegExp
  readonly summary?: RegExp
}

const RACES = /Racing publishers are not excluded/
const cases: readonly Case[] = [
  {
    what: "ignores ifAbsent",
    faults: (inner) => ({
      put: (key, body, { ifAbsent: _, ...options } = {}) => inner.put(key, body, options),
    }),
    found: { "conditional create": "warning" },
    finding:
      /create-only overwrites an object that exists; of 8 racing creates up to 8 were told to have won/,
    summary: RACES,
  },
  {
    what: "honours ifAbsent, but not in a race",
    faults: (inner) => ({
      put: async (key, body, options = {}) => {
        const { ifAbsent, ...others } = options
        if (!ifAbsent || (await inner.head(key)) !== undefined) return inner.put(key, body, options)
        await pause()
        return inner.put(key, body, others)
      },
    }),
    found: { "conditional create": "warning" },
    finding: /^of 8 racing creates up to 8 were told to have won/,
    summary: RACES,
  },
  {
    what: "tells all who race to create that they lost",
    faults: (inner) => {
      const tried = new Set<string>()
      return {
        put: (key, body, options) => {
          if (options?.ifAbsent && !tried.has(key)) {
            tried.add(key)
            if (key.includes("race")) return inner.put(key, body).then(() => inner.put(key, body, options))
          }
          return inner.put(key, body, options)
        },
      }
    },
    found: { "conditional create": "failed" },
    finding: /^of 8 racing creates none won in 5 of 5 rounds/,
  },
  {
    what: "refuses conditional creates",
    faults: (inner) => ({
      put: async (key, body, options) => {
        if (options?.ifAbsent) throw unsupported("HTTP 501")
        return inner.put(key, body, options)
      },
    }),
    found: { "conditional create": "failed" },
    finding: /HTTP 501/,
    summary: /It cannot be used for building and publishing\./,
  },
  {
    what: "ignores ifMatch",
    faults: (inner) => ({
      put: (key, body, { ifMatch: _, ...options } = {}) => inner.put(key, body, options),
    }),
    found: { "conditional overwrite": "warning" },
    finding:
      /stale ETag is accepted; .*does not exist; 8 racing writers made 24 increments, and the counter shows \d/,
    summary: RACES,
  },
  {
    what: "honours ifMatch, but not in a race",
    faults: (inner) => ({
      put: async (key, body, options = {}) => {
        const { ifMatch, ...others } = options
        if (ifMatch === undefined || (await inner.head(key))?.etag !== ifMatch)
          return inner.put(key, body, options)
        await pause()
        return inner.put(key, body, others)
      },
    }),
    found: { "conditional overwrite": "warning" },
    finding: /^8 racing writers made 24 increments, and the counter shows \d/,
    summary: RACES,
  },
  {
    what: "refuses overwrites with the right ETag",
    faults: (inner) => ({
      put: (key, body, options) =>
        inner.put(key, body, options?.ifMatch === undefined ? options : { ifMatch: "another" }),
    }),
    found: { "conditional overwrite": "failed" },
    finding: /current ETag is refused/,
    summary: /It cannot be used for building and publishing\./,
  },
  {
    what: "lists backwards",
    faults: (inner) => ({ list: (prefix) => reordered(inner, prefix, (keys) => keys.reverse()) }),
    found: { listing: "failed", paging: "failed" },
    finding: /not in the order of their bytes/,
    summary: /It cannot be used for history and collection \(gc\)\./,
  },
  {
    what: "lists in the order of UTF-16",
    faults: (inner) => ({ list: (prefix) => reordered(inner, prefix, (keys) => keys.sort()) }),
    found: { listing: "failed" },
    finding: /not in the order of their bytes/,
  },
  {
    what: "lists one page only",
    faults: (inner) => ({ list: (prefix) => reordered(inner, prefix, (keys) => keys.slice(0, 1000)) }),
    found: { paging: "failed" },
    finding: /50 of 1050 keys are missing/,
    summary: /It cannot be used for history and collection \(gc\)\./,
  },
  {
    what: "lists the first key of a page twice",
    faults: (inner) => ({
      list: (prefix) =>
        reordered(inner, prefix, (keys) => keys.flatMap((key, i) => (i === 1000 ? [key, key] : key))),
    }),
    found: { paging: "failed" },
    finding: /1 keys come twice/,
  },
  {
    what: "lists what does not start with the prefix",
    faults: (inner) => ({ list: (prefix) => inner.list(prefix.replace(/list\/$/, "list")) }),
    found: { listing: "failed" },
    finding: /1 keys come that do not start with the prefix/,
  },
  {
    what: "truncates ranges",
    faults: (inner) => ({
      get: async (key, options) => {
        const object = await inner.get(key, options)
        return object && options?.range ? { ...object, body: object.body.subarray(0, 100) } : object
      },
    }),
    found: { ranges: "failed" },
    finding: /first bytes, got other bytes, middle bytes, got other bytes and last bytes, got other bytes/,
  },
  {
    what: "gives whole objects for ranges",
    faults: (inner) => ({ get: (key) => inner.get(key) }),
    found: { ranges: "failed" },
    finding: /first bytes, got other bytes.*a range past the end, got other bytes/,
    summary: /It cannot be used for reading snapshots and building and publishing\./,
  },
  {
    what: "gives other bytes than were written",
    faults: (inner) => ({
      get: async (key, options) => {
        const object = await inner.get(key, options)
        return object && key.endsWith("/object") ? { ...object, body: object.body.subarray(1) } : object
      },
    }),
    found: { objects: "failed" },
    finding: /^GET right after PUT gives other bytes than were written;/,
  },
  {
    what: "gives HEAD another size and ETag",
    faults: (inner) => ({
      head: async (key, options) => {
        const info = await inner.head(key, options)
        return info && { ...info, size: 1, etag: "another" }
      },
    }),
    found: { objects: "failed" },
    finding: /HEAD says 1 bytes of 13; PUT, GET and HEAD do not give the same ETag/,
  },
  {
    what: "finds what was never written",
    faults: (inner) => ({
      get: async (key, options) =>
        (await inner.get(key, options)) ?? {
          size: 0,
          etag: "0",
          lastModified: new Date(),
          body: new Uint8Array(),
        },
    }),
    found: { objects: "failed" },
    finding: /a key that was never written is found/,
  },
  {
    what: "says that nothing ever changes",
    faults: () => ({ getIfChanged: async () => "unchanged" }),
    found: { "conditional read": "failed" },
    finding: /a changed object, asked for if changed, gives "unchanged"/,
  },
  {
    what: "sends what did not change",
    faults: (inner) => ({ getIfChanged: (key, _etag, options) => inner.get(key, options) }),
    found: { "conditional read": "warning" },
    finding: /sent again/,
  },
  {
    what: "has a clock that is an hour ahead",
    faults: (inner) => ({
      head: async (key, options) => {
        const info = await inner.head(key, options)
        return info && { ...info, lastModified: new Date(info.lastModified.getTime() + 3_600_000) }
      },
    }),
    found: { clock: "warning" },
    finding: /3,(599|600) s ahead of this machine's/,
  },
  {
    what: "reports what is missing as not deleted",
    faults: (inner) => ({
      delete: async (keys, options) => {
        await inner.delete(keys, options)
        return keys
          .filter((key) => key.endsWith("delete-missing"))
          .map((key) => ({ key, reason: "NoSuchKey" }))
      },
    }),
    found: { delete: "failed" },
    finding: /1 failures were reported, the first: NoSuchKey/,
  },
  {
    what: "refuses lists",
    faults: refuseList,
    found: { listing: "warning", permissions: "warning" },
    finding: /refused: s3:ListBucket was refused/,
    summary: /building and publishing\. It cannot be used for history and collection \(gc\)\./,
  },
  {
    what: "refuses lists, and so does not tell what is missing",
    faults: (inner) => ({
      ...refuseList(inner),
      get: async (key, options) => (await inner.get(key, options)) ?? refuse("s3:GetObject")(),
    }),
    found: { connection: "warning", objects: "warning", listing: "warning", permissions: "warning" },
    finding: /refuses to say whether a key exists/,
    summary: /can be used for reading snapshots and building and publishing\./,
  },
  {
    what: "refuses writes",
    faults: () => ({ put: refuse("s3:PutObject") }),
    found: { objects: "failed", permissions: "failed" },
    finding: /refused: s3:PutObject was refused/,
    summary: /can be used for reading snapshots and history\. It cannot/,
  },
  {
    what: "refuses reads",
    faults: () => ({
      get: refuse("s3:GetObject"),
      head: refuse("s3:GetObject"),
      getIfChanged: refuse("s3:GetObject"),
    }),
    found: { connection: "warning", objects: "failed", permissions: "failed" },
    finding: /refuses to say/,
    summary: /too little is allowed/,
  },
]

describe("doctor names what a store does wrong that", () => {
  it.each(cases)("$what", async ({ faults, found, finding, summary }) => {
    const { inner, store } = misbehaving(faults)
    const diagnosis = await diagnoseStore(store)
    expect(findingsOf(diagnosis)).toEqual(found)
    const [first] = Object.keys(found)
    expect(checkOf(diagnosis, first!).finding).toMatch(finding)
    expect(checkOf(diagnosis, first!).meaning).toMatch(/\w/)
    if (summary !== undefined) expect(diagnosis.summary).toMatch(summary)
    expect(await keysIn(inner)).toEqual([])
  })

  it("refuses deletes: writes little, and tells what it leaves", async () => {
    const { inner, store } = misbehaving(() => ({ delete: refuse("s3:DeleteObject") }))
    const diagnosis = await diagnoseStore(store)
    expect(findingsOf(diagnosis)).toEqual({ delete: "warning", permissions: "warning", cleanup: "warning" })
    expect(checkOf(diagnosis, "permissions")).toMatchObject({
      finding: "get, put and list allowed; delete refused",
      meaning: "delete is needed for gc",
    })
    expect(checkOf(diagnosis, "paging").verdict).toBe("skipped")
    const left = await keysIn(inner)
    expect(left.length).toBeLessThan(50)
    expect(checkOf(diagnosis, "cleanup").finding).toMatch(`${left.length} objects may be left below probes/`)
    expect(left.map((key) => parseKey(key)?.kind)).toEqual(left.map(() => "probe"))
    expect(diagnosis.summary).toMatch(/It cannot be used for collection \(gc\)\.$/)
  })

  it("says that it deleted what it did not", async () => {
    const { inner, store } = misbehaving(() => ({ delete: async () => [] }))
    const diagnosis = await diagnoseStore(store, { quick: true })
    expect(findingsOf(diagnosis)).toEqual({ delete: "failed", cleanup: "warning" })
    expect(checkOf(diagnosis, "delete").finding).toBe("11 of 11 deleted objects are still there")
    expect(checkOf(diagnosis, "cleanup").finding).toMatch(`${(await keysIn(inner)).length} objects`)
  })

  it("cuts large uploads, or lets two of them create one object", async () => {
    const cut = misbehaving(
      (inner) => ({
        put: (key, body, options) => inner.put(key, "file" in body ? new Uint8Array(7) : body, options),
      }),
      "s3://bucket/x",
    )
    const cutDiagnosis = await diagnoseStore(cut.store)
    expect(findingsOf(cutDiagnosis)).toEqual({ multipart: "failed" })
    expect(checkOf(cutDiagnosis, "multipart").finding).toMatch(/reads back as other bytes/)

    const lax = misbehaving(
      (inner) => ({
        put: (key, body, options) => inner.put(key, body, "file" in body ? {} : options),
      }),
      "s3://bucket/x",
    )
    const laxDiagnosis = await diagnoseStore(lax.store)
    expect(findingsOf(laxDiagnosis)).toEqual({ multipart: "warning" })
    expect([...(await keysIn(cut.inner)), ...(await keysIn(lax.inner))]).toEqual([])
  })
})

describe("doctor does not wait for a store that", () => {
  const IMPATIENT: DoctorOptions = { quick: true, checkTimeoutMs: 3000 }

  it("does not answer at all", async () => {
    const { store } = misbehaving(() => ({ get: hang }))
    const diagnosis = await diagnoseStore(store, IMPATIENT)
    expect(findingsOf(diagnosis)).toEqual({ connection: "failed" })
    expect(checkOf(diagnosis, "connection")).toMatchObject({
      finding: "no answer within 3 s",
      error: "Unavailable",
    })
    expect(checkOf(diagnosis, "objects")).toMatchObject({ verdict: "skipped" })
    expect(diagnosis.summary).toMatch(/^Nothing can be said/)
  })

  it("does not answer to one kind of request: the other checks are made", async () => {
    const { inner, store } = misbehaving((memory) => ({
      put: (key, body, options) => (options?.ifAbsent ? hang() : memory.put(key, body, options)),
    }))
    const diagnosis = await diagnoseStore(store, IMPATIENT)
    expect(findingsOf(diagnosis)).toEqual({ "conditional create": "failed" })
    expect(checkOf(diagnosis, "conditional create").finding).toBe("no answer within 3 s")
    expect(await keysIn(inner)).toEqual([])
  })

  it("hangs while it is cleaned up", async () => {
    const { store } = misbehaving(() => ({
      delete: hang,
      list: () => ({ [Symbol.asyncIterator]: () => ({ next: hang }) }),
    }))
    const diagnosis = await diagnoseStore(store, { ...IMPATIENT, checkTimeoutMs: 300 })
    expect(checkOf(diagnosis, "cleanup").verdict).toBe("warning")
    expect(checkOf(diagnosis, "cleanup").finding).toMatch(/no answer within 0\.3 s/)
  })
})

describe("doctor that is stopped", () => {
  it("cleans up, then throws Aborted", async () => {
    const stop = new AbortController()
    const { inner, store } = misbehaving((memory) => ({
      put: async (key, body, options) => {
        const written = await memory.put(key, body, options)
        if (key.includes("/pages/00500")) stop.abort("enough")
        return written
      },
    }))
    const checks: string[] = []
    const diagnosis = diagnoseStore(store, { signal: stop.signal, onCheck: ({ name }) => checks.push(name) })
    await expect(diagnosis).rejects.toMatchObject({ tag: "Aborted", details: { remaining: 0 } })
    expect(checks.at(-1)).toBe("listing")
    expect(await keysIn(inner)).toEqual([])
  })

  it("says what it could not remove", async () => {
    const stop = new AbortController()
    const { store } = misbehaving((memory) => ({
      delete: async () => {
        stop.abort()
        return refuse("s3:DeleteObject")()
      },
      head: memory.head.bind(memory),
    }))
    await expect(diagnoseStore(store, { signal: stop.signal })).rejects.toThrow(
      /doctor was stopped; \d+ objects may be left below probes\/[0-9a-z]{12}\//,
    )
  })

  it("by SIGINT leaves nothing behind", async () => {
    const { url, store: options } = s3Root("doctor-sigint")
    const child = startCli(["doctor", url])
    child.stdout!.once("data", () => child.kill("SIGINT"))
    expect(await finished(child)).toMatchObject({ code: 130 })
    const store = openStore(url, options)
    expect(await keysIn(store)).toEqual([])
    store.close()
  })
})

describe("doctor on an S3 server", () => {
  const KEYS = /^doctor\/probes\/[0-9a-z]{12}\/./

  async function withServer(use: (server: S3Server, store: ObjectStore) => Promise<void>): Promise<void> {
    const server = await startS3Server({ buckets: ["bucket"] })
    const store = openS3Store("bucket", "doctor", {
      endpoint: server.endpoint,
      region: "us-east-1",
      credentials: { accessKeyId: "id", secretAccessKey: "secret" },
    })
    try {
      await use(server, store)
    } finally {
      store.close()
      await server.close()
    }
  }

  it("uploads in parts, and touches no key but its own", () =>
    withServer(async (server, store) => {
      expect(findingsOf(await diagnoseStore(store))).toEqual({})
      const operations = new Set(server.requests.map(({ operation }) => operation))
      expect(operations).toContain("CreateMultipartUpload")
      const others = server.requests.filter(({ key }) => key !== "" && !KEYS.test(key))
      expect(others).toEqual([])
    }))

  it("sees through to preconditions that the server overlooks", () =>
    withServer(async (server, store) => {
      server.fault(() => true, { do: "ignore-preconditions" }, Number.POSITIVE_INFINITY)
      expect(findingsOf(await diagnoseStore(store))).toEqual({
        "conditional create": "warning",
        "conditional overwrite": "warning",
        multipart: "warning",
      })
    }))

  it("takes keys that are refused one by one for a refusal to delete", () =>
    withServer(async (server, store) => {
      server.fault(
        { operation: "DeleteObjects" },
        { do: "refuse-delete", keys: /./ },
        Number.POSITIVE_INFINITY,
      )
      const diagnosis = await diagnoseStore(store)
      expect(findingsOf(diagnosis)).toEqual({ delete: "warning", permissions: "warning", cleanup: "warning" })
      expect(checkOf(diagnosis, "permissions").finding).toMatch(/delete refused/)
    }))
})

describe("vecsnap doctor", () => {
  it("prints a line per check, and what the store can be used for", () =>
    withTempDir(async (dir) => {
      const io = captureIo()
      expect(await run(["doctor", dir, "--quick"], io)).toBe(0)
      expect(io.out()).toMatch(/^ok {4}connection {13}the store answers/)
      expect(io.out()).toMatch(/^skip {2}paging {17}left out/m)
      expect(io.out()).toContain(`\n\nThis store can be used for ${ALL_USES}.\n`)
      expect(
        Math.max(
          ...io
            .out()
            .split("\n")
            .map((line) => line.length),
        ),
      ).toBeLessThanOrEqual(100)
    }))

  it("prints the diagnosis as JSON", () =>
    withTempDir(async (dir) => {
      const io = captureIo()
      expect(await run(["doctor", dir, "--quick", "--json"], io)).toBe(0)
      const { checks, ...others } = JSON.parse(io.out()) as Diagnosis
      expect(others).toEqual({ url: dir, verdict: "ok", summary: `This store can be used for ${ALL_USES}.` })
      expect(checks.map(({ name }) => name)).toEqual([
        "connection",
        "objects",
        "latency",
        "ranges",
        "conditional read",
        "conditional create",
        "conditional overwrite",
        "delete",
        "listing",
        "paging",
        "clock",
        "multipart",
        "permissions",
        "cleanup",
      ])
    }))

  async function exitCodeAt(server: S3Server, url: string): Promise<{ code: number | null; out: string }> {
    const { code, stdout } = await finished(
      startCli(["doctor", url, "--quick", "--check-timeout", "20"], { AWS_ENDPOINT_URL_S3: server.endpoint }),
    )
    return { code, out: stdout }
  }

  it("tells by the exit code what is wrong: 8 unfit, 2 credentials, 3 no bucket, 7 not reached", async () => {
    const server = await startS3Server({ buckets: ["bucket"] })
    server.fault({ operation: "PutObject" }, { do: "status", status: 403 }, Number.POSITIVE_INFINITY)
    expect(await exitCodeAt(server, "s3://bucket/x")).toMatchObject({
      code: 8,
      out: expect.stringMatching(/^FAIL {2}objects .*refused/m),
    })
    expect((await exitCodeAt(server, "s3://no-bucket/x")).code).toBe(3)
    await server.close()
    expect((await exitCodeAt(server, "s3://bucket/x")).code).toBe(7)

    const strict = await startS3Server({ buckets: ["bucket"], accessKeyId: "somebody else" })
    expect(await exitCodeAt(strict, "s3://bucket/x")).toMatchObject({
      code: 2,
      out: expect.stringMatching(/^FAIL {2}connection .*[\s\S]*credentials are wrong/m),
    })
    await strict.close()
  })
})
