/**
 * Adds to package-lock.json the optional packages of other platforms that a partial mirror of the registry does not have.
 *
 * npm leaves out of the lock file what it could not look up, and then refuses that lock file ("Missing: … from lock
 * file", https://github.com/npm/cli/issues/9846). The entries that this adds have no integrity hash. With `--forget`
 * those entries are removed, so that npm looks them up anew, with their hashes, where the packages are to be had now.
 * Run `npm run lock`, which does all of it, after every change of dependencies; a test notices if it was forgotten.
 */
import { readFileSync, writeFileSync } from "node:fs"

const SYSTEMS = ["darwin", "linux", "win32", "android", "freebsd", "openharmony"]
const PROCESSORS = ["arm64", "x64", "ia32", "arm", "ppc64", "s390x", "riscv64", "wasm32"]

const path = new URL("../package-lock.json", import.meta.url)
const lock = JSON.parse(readFileSync(path, "utf8"))
const write = () => writeFileSync(path, `${JSON.stringify(lock, null, 2)}\n`)

if (process.argv[2] === "--forget") {
  const known = Object.entries(lock.packages).filter(([key, { integrity }]) => key === "" || integrity)
  lock.packages = Object.fromEntries(known)
  write()
  process.exit()
}

const known = new Set(
  Object.keys(lock.packages).map((key) => key.slice(key.lastIndexOf("node_modules/") + 13)),
)

/** What a package's name says about the platforms that it is for, as npm would have found in its manifest. */
function platformOf(name) {
  const words = name.split(/[/-]/)
  const os = SYSTEMS.filter((system) => words.includes(system))
  const cpu = PROCESSORS.filter((processor) => words.includes(processor))
  const libc = words.includes("musl")
    ? ["musl"]
    : words.includes("gnu") && os.includes("linux")
      ? ["glibc"]
      : []
  return { ...(cpu.length && { cpu }), ...(libc.length && { libc }), ...(os.length && { os }) }
}

for (const { optionalDependencies = {}, dev } of Object.values(lock.packages)) {
  for (const [name, version] of Object.entries(optionalDependencies)) {
    if (known.has(name) || !/^\d+\.\d+\.\d+\S*$/.test(version)) continue
    lock.packages[`node_modules/${name}`] = {
      version,
      optional: true,
      ...(dev && { dev }),
      ...platformOf(name),
    }
    known.add(name)
    console.log(`added ${name} ${version}`)
  }
}
lock.packages = Object.fromEntries(Object.entries(lock.packages).sort(([a], [b]) => (a < b ? -1 : 1)))
write()
