/** Making a snapshot live that a build has stored with `publish: false`, or that its gates have refused. */
import { messageOf } from "../errors.js"
import { type Logger, silentLogger } from "../logger.js"
import { readManifest, readPointer, readSnapshot } from "../manifest/current.js"
import { findManifest } from "../manifest/history.js"
import type { Manifest } from "../manifest/manifest.js"
import { liveOf } from "../manifest/pointer.js"
import { assertExpected, type ExpectedLive, type Published, publishManifest } from "../manifest/publish.js"
import { notePublished } from "../manifest/run-record.js"
import { assertSigningKept, loadSigning, type SigningOptions } from "../manifest/signing.js"
import { assertTrust, type TrustOptions } from "../shards/pools.js"
import { type Root, type RootCallOptions, withRoot } from "../storage/root.js"
import { checkGates } from "./gates/check.js"
import { checkGateOptions, type GateName, type GateOptions, type GateResult } from "./gates/options.js"

export interface PublishRunOptions extends RootCallOptions, SigningOptions, TrustOptions {
  /** Limits that the snapshot must keep, as for a build. */
  readonly gates?: GateOptions | undefined
  /** Gates that may refuse all the same. */
  readonly allow?: readonly GateName[] | undefined
  /** Publish even if another run was published since this one started. */
  readonly force?: boolean | undefined
  /** Where gates download shards to for a while; default: the system's temporary directory. */
  readonly tempDir?: string | undefined
  readonly logger?: Logger | undefined
}

export interface PublishedRun extends Published {
  /** Results of the gates, none of which refused; empty if the snapshot was live already. */
  readonly gates: readonly GateResult[]
}

/**
 * Checks the gates of a stored snapshot and makes it live. As a build does, it replaces only what was live
 * when the run started, unless forced.
 *
 * Throws `NotFound` if there is no such snapshot (any more), `GateRefused` if a gate does, `Conflict` if
 * another was published since, `Corrupt` if files of it are missing; nothing has changed then. If it is live
 * already, nothing happens.
 */
export async function publishRun(
  root: Root,
  run: string,
  options: PublishRunOptions = {},
): Promise<PublishedRun> {
  return withRoot(root, options, async (store) => {
    const { force = false, logger = silentLogger, signal } = options
    checkGateOptions(options.gates, options.allow)
    assertTrust(options)
    const signing = await loadSigning(options)
    const { key } = await findManifest(store, run, { signal })
    const manifest = await readManifest(store, key, { signal })
    const pointer = await readPointer(store, { signal })
    if (pointer?.run === run) return { publication: liveOf(pointer), replaced: run, gates: [] }
    const expected = force ? pointer : baseOf(manifest)
    assertExpected(store, run, pointer, expected)
    assertSigningKept(store, pointer, signing)
    const live = pointer && (await readSnapshot(store, pointer, { signal })).manifest
    const gates = await checkGates({
      store,
      candidate: manifest,
      live,
      options: options.gates,
      allow: options.allow,
      logger,
      tempDir: options.tempDir,
      trust: options.trust,
      isolation: options.isolation,
      signal,
    })
    const published = await publishManifest(store, key, manifest, {
      action: "publish",
      expected,
      signing,
      signal,
    })
    // What there is to know is in the pointer; the record tells it once more.
    await notePublished(store, run, { signal }).catch((error) =>
      logger.warn({ run, error: messageOf(error) }, "run record not written"),
    )
    return { ...published, gates }
  })
}

/** What a run may replace: what was live when it started. */
function baseOf({ base, basePublication }: Manifest): Exclude<ExpectedLive, "any"> {
  if (base === undefined) return undefined
  return basePublication === undefined ? { run: base } : { run: base, number: basePublication }
}
