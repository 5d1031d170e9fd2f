/**
 * Our own format, as the contract of `snapshot/format.ts` has it: what a manifest says of a snapshot, and
 * what points to it.
 */
import type { SnapshotFormat } from "../snapshot/format.js"
import { readArtifacts } from "./artifacts.js"
import { pointerAsRead, readManifest } from "./current.js"
import { assertRunId, findManifest } from "./history.js"
import { POINTER_FORMAT } from "./pointer.js"
import { signedManifest, signedPublication } from "./signed.js"

export const vecsnapFormat: SnapshotFormat = {
  name: "vecsnap",
  leases: true,
  recognises: ({ format }) => format === POINTER_FORMAT,
  decodePointer(object) {
    const pointer = pointerAsRead(object)
    const statement = signedPublication(pointer)
    const { signed } = pointer
    return {
      ...pointer,
      ...(statement && { signature: { ...statement, manifestSha256: signed!.manifestSha256 } }),
    }
  },
  signedSnapshot: signedManifest,
  assertRun: assertRunId,
  async findRun(store, run, options) {
    const { key } = await findManifest(store, run, options)
    return { run, manifest: key }
  },
  readSnapshot: readManifest,
  readArtifacts,
}
