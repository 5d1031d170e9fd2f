/** What `mutants.js` takes out of the compiled code, one at a time. */

export interface Mutant {
  readonly name: string
  /** Below `dist/`. */
  readonly file: string
  readonly from: string
  readonly to: string
  /** The invariants that this mechanism keeps: a failure of another would not be its own. */
  readonly breaks: readonly string[]
}

const POINTER = "src/manifest/pointer.js"
const PUBLISH = "src/manifest/publish.js"
const ACTIVE_RUN = "src/writer/active-run.js"
const COLLECT = "src/maintenance/gc/collect.js"
const CONDEMN = "src/maintenance/gc/condemn.js"
const REMOVE = "src/maintenance/gc/remove.js"
const RULES = "src/maintenance/gc/rules.js"
const PINS = "src/maintenance/pins.js"

export const MUTANTS: readonly Mutant[] = [
  {
    name: "the pointer is replaced without a precondition",
    file: PUBLISH,
    from: "live === undefined ? { ifAbsent: true } : { ifMatch: live.etag }",
    to: "{}",
    breaks: ["exactly one wins each swap", "what is live is replaced by who knows it"],
  },
  {
    name: "what is live is not compared with what was expected",
    file: PUBLISH,
    from: 'expected !== "any" && !isExpected(live, expected)',
    to: "false",
    breaks: ["what is live is replaced by who knows it"],
  },
  {
    name: "a lost reply of the pointer is not settled",
    file: PUBLISH,
    from: "if (!unclear)",
    to: 'if (isVecsnapError(error, "Conflict")) return false\n        if (true)',
    breaks: ["exactly one wins each swap"],
  },
  {
    name: "a publication that was replaced at once is not looked for in the history",
    file: PUBLISH,
    from: "(isPublication &&",
    to: "(false &&",
    breaks: ["exactly one wins each swap"],
  },
  {
    name: "condemned runs may be published",
    file: PUBLISH,
    from: "if (live?.condemned.includes(run))",
    to: "if (false)",
    breaks: ["nothing live is deleted", "the pointer names a complete snapshot"],
  },
  {
    name: "a snapshot is published without a look at its files",
    file: PUBLISH,
    from: "        await assertComplete(store, key, snapshot, { signal });",
    to: "",
    breaks: ["the pointer names a complete snapshot"],
  },
  {
    name: "publishing does not renew the lease first",
    file: PUBLISH,
    from: "await confirm?.();",
    to: "",
    breaks: [
      "a run that was ended does not publish",
      "the pointer names a complete snapshot",
      "nothing live is deleted",
    ],
  },
  {
    name: "history is dropped",
    file: POINTER,
    from: "publicationsOf(live).slice(0, HISTORY_LIMIT)",
    to: "[]",
    breaks: ["exactly one wins each swap"],
  },
  {
    name: "publishing forgets who is condemned",
    file: POINTER,
    from: "condemned: live?.condemned ?? []",
    to: "condemned: []",
    breaks: ["nothing live is deleted", "the pointer names a complete snapshot"],
  },
  {
    name: "a run does not look again at the pointer after it noted its base",
    file: ACTIVE_RUN,
    from: "const now = await readPointer(store, { signal });",
    to: "const now = pointer;",
    breaks: ["nothing leased is deleted"],
  },
  {
    name: "a run has no heartbeat",
    file: ACTIVE_RUN,
    from: "void beat();",
    to: "",
    breaks: [
      "only who stands still loses the lease",
      "nothing leased is deleted",
      "a run that goes on is not ended",
    ],
  },
  {
    name: "a heartbeat ignores that the run was ended",
    file: ACTIVE_RUN,
    from: 'if (found?.record?.state !== "running" || found.etag === etag)',
    to: "if (false)",
    breaks: [
      "a run that was ended does not publish",
      "nothing leased is ended",
      "nothing live is deleted",
      "the pointer names a complete snapshot",
    ],
  },
  {
    name: "a heartbeat takes its own lost reply for the end of the run",
    file: ACTIVE_RUN,
    from: 'if (found?.record?.state !== "running" || found.etag === etag)',
    to: "if (true)",
    breaks: ["only who stands still loses the lease"],
  },
  {
    name: "the time is that of the own clock",
    file: "src/manifest/store-time.js",
    from: "return written.lastModified;",
    to: "return new Date();",
    breaks: [
      "nothing within grace is deleted",
      "nothing live is deleted",
      "nothing pinned is deleted",
      "nothing leased is deleted",
      "nothing leased is ended",
    ],
  },
  {
    name: "lost replies of conditional writes are not settled by the retry",
    file: "src/storage/with-retry.js",
    from: 'if (conditional && mayHaveLanded && isVecsnapError(error, "Conflict"))',
    to: "if (false)",
    breaks: [
      "a normal run succeeds after whatever happened",
      "only who stands still loses the lease",
      "exactly one wins each swap",
    ],
  },
  {
    name: "gates do not stop a build",
    file: "test/simulation/actors.js",
    from: 'throw gateRefused("rows: 0, at least 1");',
    to: "",
    breaks: ["what gates refuse is never live"],
  },
  {
    name: "a collection does not condemn",
    file: COLLECT,
    from: "await condemn(job, pointer, plan, now)",
    to: "new Set()",
    breaks: ["nothing live is deleted", "nothing pinned is deleted"],
  },
  {
    name: "a collection does not look again at what protects",
    file: CONDEMN,
    from: "new Map(usesOf(protectors, now, options.graceSeconds))",
    to: "new Map()",
    breaks: ["nothing pinned is deleted", "nothing leased is deleted", "a reader can finish"],
  },
  {
    name: "a collection does not write the pointer once more before it removes",
    file: CONDEMN,
    from: "if (await swapPointer(store, pointer, withoutCondemned(pointer, released)))",
    to: "if (true)",
    breaks: ["nothing live is deleted", "garbage is deleted at last", "nothing pinned is deleted"],
  },
  {
    name: "what was live lately has no grace",
    file: RULES,
    from: "replaced !== undefined && isWithin(graceSeconds, replaced, now)",
    to: "false",
    breaks: ["nothing within grace is deleted"],
  },
  {
    name: "new snapshots have no grace",
    file: RULES,
    from: 'if (isWithin(graceSeconds, lastModified, now))\n                reasons.push("written within the grace period");',
    to: "",
    breaks: ["nothing within grace is deleted"],
  },
  {
    name: "new files have no grace",
    file: RULES,
    from: "if (isWithin(graceSeconds, lastModified, now))\n        return false;",
    to: "",
    breaks: ["nothing within grace is deleted"],
  },
  {
    name: "when a snapshot was replaced is what its successor thought before it moved the pointer",
    file: RULES,
    from: "i === 1 ? liveSinceOf(pointer) : next.publishedAt",
    to: "next.publishedAt",
    breaks: ["nothing within grace is deleted"],
  },
  {
    name: "what is live is not kept",
    file: RULES,
    from: "if (isLive)\n",
    to: "if (false)\n",
    breaks: ["nothing live is deleted"],
  },
  {
    name: "files that several snapshots share are not marked",
    file: RULES,
    from: "!evidence.marked.has(key)",
    to: "true",
    breaks: [
      "nothing within grace is deleted",
      "nothing live is deleted",
      "nothing pinned is deleted",
      "a reader can finish",
      "the pointer names a complete snapshot",
    ],
  },
  {
    name: "files of runs that go on are not spared",
    file: RULES,
    from: "!evidence.untouchable.has(parsed.run)",
    to: "true",
    breaks: ["nothing leased is condemned", "nothing leased is deleted"],
  },
  {
    name: "leases of runs are not heeded",
    file: RULES,
    from: 'record.state === "running" && isWithin(record.leaseSeconds + graceSeconds, lastModified, now)',
    to: "false",
    breaks: ["nothing leased is deleted", "nothing leased is ended", "nothing leased is condemned"],
  },
  {
    name: "the base of a run is not spared",
    file: RULES,
    from: "if (record?.base !== undefined)",
    to: "if (false)",
    breaks: ["nothing leased is deleted"],
  },
  {
    name: "pins are not heeded",
    file: RULES,
    from: "if (isPinAlive(found, now, graceSeconds))",
    to: "if (false)",
    breaks: ["nothing pinned is deleted"],
  },
  {
    name: "a pin does not look who is condemned",
    file: PINS,
    from: "live?.condemned.includes(run) ||",
    to: "",
    breaks: ["nothing pinned is deleted"],
  },
  {
    name: "dead runs are not ended",
    file: CONDEMN,
    from: "runs.filter((run) => isDead(run, now, options.graceSeconds))",
    to: "[]",
    breaks: [
      "garbage is deleted at last",
      "nothing live is deleted",
      "the pointer names a complete snapshot",
    ],
  },
  {
    name: "dead runs are ended whether or not they came back",
    file: CONDEMN,
    from: "ifMatch: etag, ",
    to: "",
    breaks: ["nothing leased is ended"],
  },
  {
    name: "removed runs stay condemned",
    file: REMOVE,
    from: "if (await swapPointer(store, pointer, withoutCondemned(pointer, done)))",
    to: "if (true)",
    breaks: ["garbage is deleted at last"],
  },
  {
    name: "runs that could not be removed are not condemned any more",
    file: REMOVE,
    from: "!failed.has(run) && !spared.has(run)",
    to: "!spared.has(run)",
    breaks: [
      "nothing live is deleted",
      "the pointer names a complete snapshot",
      "garbage is deleted at last",
    ],
  },
  {
    name: "leases of readers are not heeded",
    file: RULES,
    from: "if (found.lease === undefined || !isLeaseAlive(found, now))",
    to: "if (true)",
    breaks: ["a reader can finish"],
  },
  {
    name: "files are removed before the manifests that name them",
    file: REMOVE,
    from: "const all = [...plan.going.values()];",
    to: 'const all = [...plan.going.values()];\n    const isFile = (kind) => kind !== "manifest" && kind !== "run";\n    await removeBatches(job, all.filter(({ kind }) => isFile(kind)), all.length);\n    for (const { key, kind } of all) if (isFile(kind)) all.splice(all.findIndex((one) => one.key === key), 1);',
    breaks: ["what can be found is complete"],
  },
  {
    name: "what another collection took from the condemned is removed",
    file: CONDEMN,
    from: "object.condemned && !condemned.has(run) && !uses.has(run)",
    to: "false",
    breaks: ["nothing live is deleted"],
  },
]

/**
 * The code of a mutant's file with its change. Throws if what is to be taken out is not there exactly once.
 */
export function changed(code: string, { file, from, to }: Mutant): string {
  if (code.split(from).length !== 2) throw new Error(`not exactly once in ${file}: ${from}`)
  return code.replace(from, () => to)
}
