/** The codebook of a snapshot's shards, as it is read. */
import { corrupt } from "../errors.js"
import { sha256OfBytes } from "../storage/checksum.js"
import type { CallOptions, ObjectStore } from "../storage/store.js"
import { decodeCodebook, type SnapshotCodes } from "../vectors/cells/codebook.js"
import { readVerified } from "./content.js"
import type { Snapshot, SnapshotSchema } from "./snapshot.js"

/**
 * Reads and checks the codebook, if there is one. Throws `Corrupt`, `Unsupported` or `NotFound`, naming the
 * object.
 */
export async function readCodes(
  store: ObjectStore,
  { codes, schema }: Pick<Snapshot, "codes" | "schema">,
  options?: CallOptions,
): Promise<SnapshotCodes | undefined> {
  return codes && codesOf(await readVerified(store, codes, options), codes.key, schema)
}

/** The codebook in the bytes of its file, whose name is for messages. */
export function codesOf(
  bytes: Uint8Array,
  name: string,
  schema: Pick<SnapshotSchema, "dim" | "metric">,
): SnapshotCodes {
  const codebook = decodeCodebook(bytes, name)
  const { dim, metric } = codebook.space
  if (dim === schema.dim && metric === schema.metric)
    return { codebook, sha256: Buffer.from(sha256OfBytes(bytes), "hex") }
  throw corrupt(
    `${name} is a codebook for ${dim} dimensions under ${metric}, expected ${schema.dim} under ${schema.metric}`,
    { key: name },
  )
}
