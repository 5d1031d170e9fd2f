/** Whether the recall that a build has measured is enough: looks at the new snapshot alone. */
import type { Manifest } from "../../manifest/manifest.js"
import { certifiedRecall, defaultProbes, defaultRecall } from "../../recall/curves.js"
import { TARGET_K } from "../../sharding/strategy.js"
import type { GateOptions, Judged } from "./options.js"

/** A snapshot that does not say what the limit is about is refused: who asks for a recall wants it known. */
export function judgeRecall(
  { run, recall, sharding }: Pick<Manifest, "run" | "recall" | "sharding">,
  { min, k = TARGET_K, probes: given }: NonNullable<GateOptions["recall"]>,
): Judged {
  const byDefault = given === undefined ? defaultRecall({ recall, sharding }, k) : undefined
  const probes = given ?? defaultProbes(sharding)
  const effort =
    byDefault?.target === undefined
      ? `${probes} ${probes === 1 ? "probe" : "probes"}`
      : `target ${byDefault.target}`
  const limit = `at least ${min} of ${k} at ${effort}`
  const refuse = (reason: string): Judged => ({ limit, value: null, verdict: "refused", reason })
  if (recall === undefined) {
    return refuse(
      `the recall of snapshot ${run} was not measured: it was built without a certificate, or from fewer than 400 rows`,
    )
  }
  const measured = given === undefined ? byDefault : certifiedRecall(recall, k, given)
  if (measured === undefined) {
    return refuse(`the recall of the ${k} nearest was not measured: snapshot ${run} has fewer rows`)
  }
  const { mean, low, high } = measured
  const { kind, count } = recall.queries
  const queries = kind === "rows" ? "rows held out" : "real queries"
  return {
    limit,
    value: mean,
    verdict: mean >= min ? "passed" : "refused",
    reason: `${count} ${queries} found ${mean} of their ${k} nearest at ${effort}, 95 % sure from ${low} to ${high}`,
  }
}
