/**
 * `node dist/test/simulation/mutants.js [<schedules>] [<word in a name>]`: takes each mechanism out of the compiled code, one at a time, and
 * runs the simulation until it fails. Prints a line for each: the first seed that fails and the invariant that it violates.
 * Exits with 1 if one is not found that should be, or if what is to be taken out is not there any more.
 */
import { spawnSync } from "node:child_process"
import { cpSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { fromRoot } from "../support/paths.js"

interface Mutant {
  readonly name: string
  /** Below `dist/`. */
  readonly file: string
  readonly from: string
  readonly to: string
  /** Why the simulation can't see that it is gone, where that is so. */
  readonly unseen?: string
}

const POINTER = "src/manifest/pointer.js"
const PUBLISH = "src/manifest/publish.js"
const ACTIVE_RUN = "src/writer/active-run.js"
const COLLECT = "src/maintenance/gc/collect.js"
const RULES = "src/maintenance/gc/rules.js"
const PINS = "src/maintenance/pins.js"

const MUTANTS: readonly Mutant[] = [
  {
    name: "the pointer is replaced without a precondition",
    file: PUBLISH,
    from: "live === undefined ? { ifAbsent: true } : { ifMatch: live.etag }",
    to: "{}",
  },
  {
    name: "what is live is not compared with what was expected",
    file: PUBLISH,
    from: 'expected !== "any" && !isExpected(live, expected)',
    to: "false",
  },
  {
    name: "a lost reply of the pointer is not settled",
    file: PUBLISH,
    from: "if (!unclear)",
    to: 'if (isVecsnapError(error, "Conflict")) return false\n        if (true)',
  },
  {
    name: "a publication that was replaced at once is not looked for in the history",
    file: PUBLISH,
    from: "(isPublication &&",
    to: "(false &&",
  },
  {
    name: "condemned runs may be published",
    file: PUBLISH,
    from: "if (live?.condemned.includes(run))",
    to: "if (false)",
  },
  {
    name: "a snapshot is published without a look at its files",
    file: PUBLISH,
    from: "await assertComplete(store, key, manifest, { signal });",
    to: "",
  },
  {
    name: "publishing does not renew the lease first",
    file: PUBLISH,
    from: "await confirm?.();",
    to: "",
    unseen:
      "not seen: the pointer and the look at the files refuse a run that was removed; renewing tells it sooner",
  },
  {
    name: "history is dropped",
    file: POINTER,
    from: "publicationsOf(live).slice(0, HISTORY_LIMIT)",
    to: "[]",
  },
  {
    name: "publishing forgets who is condemned",
    file: POINTER,
    from: "condemned: live?.condemned ?? []",
    to: "condemned: []",
  },
  {
    name: "a run does not look again at the pointer after it noted its base",
    file: ACTIVE_RUN,
    from: "const now = await readPointer(store, { signal });",
    to: "const now = pointer;",
  },
  { name: "a run has no heartbeat", file: ACTIVE_RUN, from: "void beat();", to: "" },
  {
    name: "a heartbeat ignores that the run was ended",
    file: ACTIVE_RUN,
    from: 'if (found?.record?.state !== "running" || found.etag === etag)',
    to: "if (false)",
  },
  {
    name: "a heartbeat takes its own lost reply for the end of the run",
    file: ACTIVE_RUN,
    from: 'if (found?.record?.state !== "running" || found.etag === etag)',
    to: "if (true)",
  },
  {
    name: "the time is that of the own clock",
    file: "src/manifest/store-time.js",
    from: "return written.lastModified;",
    to: "return new Date();",
  },
  {
    name: "lost replies of conditional writes are not settled by the retry",
    file: "src/storage/with-retry.js",
    from: 'if (conditional && mayHaveLanded && isVecsnapError(error, "Conflict"))',
    to: "if (false)",
  },
  {
    name: "gates do not stop a build",
    file: "test/simulation/actors.js",
    from: 'throw gateRefused("rows: 0, at least 1");',
    to: "",
  },
  {
    name: "a collection does not condemn",
    file: COLLECT,
    from: "await condemn(job, pointer, plan, now)",
    to: "new Set()",
  },
  {
    name: "a collection does not look again at what protects",
    file: COLLECT,
    from: "new Map(usesOf(protectors, now, options.graceSeconds))",
    to: "new Map()",
  },
  {
    name: "a collection does not write the pointer once more before it removes",
    file: COLLECT,
    from: "if (await swapPointer(store, pointer, withoutCondemned(pointer, released)))",
    to: "if (true)",
  },
  {
    name: "what was live lately has no grace",
    file: RULES,
    from: "replaced !== undefined && isWithin(graceSeconds, replaced, now)",
    to: "false",
  },
  {
    name: "new snapshots have no grace",
    file: RULES,
    from: 'if (isWithin(graceSeconds, lastModified, now))\n                reasons.push("written within the grace period");',
    to: "",
  },
  {
    name: "new files have no grace",
    file: RULES,
    from: "if (isWithin(graceSeconds, lastModified, now))\n        return false;",
    to: "",
  },
  {
    name: "when a snapshot was replaced is what its successor thought before it moved the pointer",
    file: RULES,
    from: "i === 1 ? liveSinceOf(pointer) : next.publishedAt",
    to: "next.publishedAt",
  },
  { name: "what is live is not kept", file: RULES, from: "if (isLive)\n", to: "if (false)\n" },
  {
    name: "files that several snapshots share are not marked",
    file: RULES,
    from: "!verdict.marked.has(key)",
    to: "true",
  },
  {
    name: "files of runs that go on are not spared",
    file: RULES,
    from: "!verdict.untouchable.has(parsed.run)",
    to: "true",
  },
  {
    name: "leases of runs are not heeded",
    file: RULES,
    from: 'record.state === "running" && isWithin(record.leaseSeconds + graceSeconds, lastModified, now)',
    to: "false",
  },
  {
    name: "the base of a run is not spared",
    file: RULES,
    from: "if (record?.base !== undefined)",
    to: "if (false)",
  },
  {
    name: "pins are not heeded",
    file: RULES,
    from: "if (isPinAlive(found, now, graceSeconds))",
    to: "if (false)",
  },
  {
    name: "a pin does not look who is condemned",
    file: PINS,
    from: "if (live?.condemned.includes(run))",
    to: "if (false)",
  },
  {
    name: "dead runs are not ended",
    file: COLLECT,
    from: "runs.filter((run) => isDead(run, now, options.graceSeconds))",
    to: "[]",
  },
  {
    name: "dead runs are ended whether or not they came back",
    file: COLLECT,
    from: "ifMatch: etag, ",
    to: "",
  },
  {
    name: "removed runs stay condemned",
    file: COLLECT,
    from: "if (await swapPointer(store, pointer, withoutCondemned(pointer, done)))",
    to: "if (true)",
  },
  {
    name: "runs that could not be removed are not condemned any more",
    file: COLLECT,
    from: "!failed.has(run) && !spared.has(run)",
    to: "!spared.has(run)",
  },
]

const [schedules = "2000", word = ""] = process.argv.slice(2)

/** The output of the simulation on a copy of the compiled code in which one thing is changed. */
function simulate({ file, from, to }: Mutant): string {
  const root = fromRoot("dist/mutant")
  const dir = join(root, "dist")
  rmSync(root, { recursive: true, force: true })
  for (const part of ["src", "test/simulation", "test/support"])
    cpSync(fromRoot("dist", part), join(dir, part), { recursive: true })
  cpSync(fromRoot("package.json"), join(root, "package.json"))
  const path = join(dir, file)
  const code = readFileSync(path, "utf8")
  if (code.split(from).length !== 2) return `not found exactly once in ${file}: ${from}`
  writeFileSync(
    path,
    code.replace(from, () => to),
  )
  const args = [join(dir, "test/simulation/run.js"), "1", schedules, "--until-failure"]
  const { stdout, stderr } = spawnSync(process.execPath, args, { encoding: "utf8" })
  rmSync(root, { recursive: true })
  return stdout.split("\n").find((line) => line.startsWith("seed ")) ?? stderr.slice(0, 400)
}

for (const mutant of MUTANTS.filter(({ name }) => name.includes(word))) {
  const output = simulate(mutant)
  const [, seed, invariant] = /^seed (\d+) \([^)]+\): ([^:]+)/.exec(output) ?? []
  const found =
    seed === undefined ? ((output || mutant.unseen) ?? "NOT FOUND") : `${invariant} (seed ${seed})`
  if (seed === undefined && (output !== "" || mutant.unseen === undefined)) process.exitCode = 1
  console.log(`${mutant.name}: ${found}`)
}
