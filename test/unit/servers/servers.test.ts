/** How real servers are started and ended, with small stand-ins for them. */
import { execFile, spawn } from "node:child_process"
import { existsSync } from "node:fs"
import { chmod, mkdtemp, readFile, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { afterAll, beforeAll, expect, test } from "vitest"
import { CACHE_DIR, startServer } from "../../../localstack/servers.js"

let dir: string
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "vecsnap-test-"))
})
afterAll(() => rm(dir, { recursive: true }))

/** An executable file that runs `source` in this Node. */
async function program(source: string): Promise<string> {
  const path = join(await mkdtemp(join(dir, "program-")), "minio.cjs")
  await writeFile(path, `#!${process.execPath}\n${source}`)
  await chmod(path, 0o755)
  return path
}

// Takes the arguments of `minio server`: answers on the first port itself, and on the second by a child process.
const STAND_IN = `
const option = (name) => process.argv[process.argv.indexOf(name) + 1].split(":")
const [host, port] = option("--address")
const [, consolePort] = option("--console-address")
const serveConsole = "require('node:http').createServer((q, r) => r.end()).listen(+process.argv[1], '127.0.0.1', () => console.log())"
const child = require("node:child_process").spawn(process.execPath, ["-e", serveConsole, consolePort])
const facts = { consolePort, dataDir: process.argv.at(-1), env: process.env }
child.stdout.once("data", () => {
  require("node:http").createServer((request, response) => response.end(JSON.stringify(facts))).listen(port, host)
})
`

interface Facts {
  readonly consolePort: string
  readonly dataDir: string
  readonly env: Record<string, string>
}

const factsOf = async (endpoint: string) => (await (await fetch(endpoint)).json()) as Facts

const answers = (endpoint: string) =>
  fetch(endpoint).then(
    () => true,
    () => false,
  )

/** That the server, its child process and its directory are gone, or soon will be. */
async function expectEnded(endpoint: string, { consolePort, dataDir }: Facts): Promise<void> {
  const patience = { timeout: 10_000 }
  await expect.poll(() => answers(endpoint), patience).toBe(false)
  await expect.poll(() => answers(`http://127.0.0.1:${consolePort}`), patience).toBe(false)
  await expect.poll(() => existsSync(dirname(dataDir)), patience).toBe(false)
}

test("a server gets a fresh directory and nothing of our environment; stop ends its processes", async () => {
  process.env.SECRET_OF_THE_TEST = "x"
  const server = await startServer("minio", await program(STAND_IN))
  const facts = await factsOf(server.endpoint)
  expect(server).toMatchObject({
    name: "minio",
    endpoint: expect.stringMatching(/^http:\/\/127\.0\.0\.1:\d+$/),
  })
  expect(facts.env).toMatchObject({ MINIO_ROOT_USER: server.accessKeyId, HOME: dirname(facts.dataDir) })
  expect(facts.env).not.toHaveProperty("SECRET_OF_THE_TEST")
  expect(existsSync(facts.dataDir)).toBe(true)
  expect(await answers(`http://127.0.0.1:${facts.consolePort}`)).toBe(true)
  await server.stop()
  await expectEnded(server.endpoint, facts)
  await server.stop()
})

test("a server that ends while starting is an error with its last lines", async () => {
  const path = await program("console.log('line one'); console.error('no space left'); process.exit(3)")
  await expect(startServer("minio", path)).rejects.toThrow(
    "minio ended while starting (exit 3); its last lines were:\nline one\nno space left",
  )
})

test("a server ends when the process that started it is killed", async () => {
  const starter = join(dir, "starter.mjs")
  const module = fileURLToPath(new URL("../../../localstack/servers.js", import.meta.url))
  await writeFile(
    starter,
    `import { startServer } from ${JSON.stringify(module)}
     const server = await startServer("minio", ${JSON.stringify(await program(STAND_IN))})
     console.log(server.endpoint)`,
  )
  for (const signal of ["SIGKILL", "SIGINT"] as const) {
    const child = spawn(process.execPath, [starter], { stdio: ["ignore", "pipe", "inherit"] })
    const endpoint = await new Promise<string>((resolve) =>
      child.stdout.once("data", (line) => resolve(String(line).trim())),
    )
    const facts = await factsOf(endpoint)
    child.kill(signal)
    await expectEnded(endpoint, facts)
  }
})

test("the cache for installed servers is ignored by git", async () => {
  const ignored = (await readFile(new URL("../../../../.gitignore", import.meta.url), "utf8")).split("\n")
  expect(ignored).toContain(".cache/")
  expect(CACHE_DIR).toMatch(/\.cache\/servers$/)
})

test("the install script refuses names that are no server", async () => {
  const script = fileURLToPath(new URL("../../../localstack/install.js", import.meta.url))
  await expect(promisify(execFile)(process.execPath, [script, "--only", "ceph"])).rejects.toMatchObject({
    code: 1,
    stdout: "",
    stderr: 'the servers are minio, localstack, versitygw; got "ceph"\n',
  })
})
