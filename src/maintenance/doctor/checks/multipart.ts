/** Whether large files can be uploaded, which is done in parts. */
import { open, rm } from "node:fs/promises"
import { join } from "node:path"
import { sha256OfBytes, sha256OfFile } from "../../../storage/checksum.js"
import { makeTempDir } from "../../../storage/temp-dir.js"
import type { Judgement } from "../diagnosis.js"
import type { Trial } from "../trial.js"
import type { StoreCheck } from "./check.js"
import { pseudoRandomBytes } from "./contents.js"
import { failed, ok, warning } from "./judgements.js"
import { attempt, settleAll } from "./races.js"

interface MultipartSeen {
  readonly sizeBytes: number
  readonly winners: number
  /** Whether what is stored is, byte for byte, what one that was told to have won has sent. */
  readonly intact: boolean
}

/** Above the size from which uploads are made in parts (16 MiB, unless set otherwise). */
const MULTIPART_BYTES = 16 * 1024 * 1024 + 1

/** Uploads two large files that race to create one object, and reads it back. */
async function observeMultipart({ store, key }: Trial, signal: AbortSignal): Promise<MultipartSeen> {
  const dir = await makeTempDir(undefined, "vecsnap-doctor")
  try {
    const at = key("multipart")
    const uploads = await Promise.all(
      [1, 2].map(async (seed) => {
        const file = join(dir, `upload-${seed}`)
        return { file, sha256: await writeLargeFile(file, seed) }
      }),
    )
    const outcomes = await settleAll(
      uploads.map(({ file }) => attempt(store.put(at, { file }, { ifAbsent: true, signal }))),
    )
    const winning = uploads.filter((_, i) => outcomes[i] === "written")
    const download = join(dir, "download")
    const found = await store.getFile(at, download, { signal })
    const sha256 = found && (await sha256OfFile(download))
    return {
      sizeBytes: MULTIPART_BYTES,
      winners: winning.length,
      intact: winning.some((upload) => upload.sha256 === sha256),
    }
  } finally {
    await rm(dir, { recursive: true, force: true })
  }
}

async function writeLargeFile(path: string, seed: number): Promise<string> {
  const bytes = pseudoRandomBytes(seed, MULTIPART_BYTES)
  const handle = await open(path, "wx")
  try {
    await handle.writeFile(bytes)
  } finally {
    await handle.close()
  }
  return sha256OfBytes(bytes)
}

export function judgeMultipart({ sizeBytes, winners, intact }: MultipartSeen): Judgement {
  const size = `${(sizeBytes / 1024 ** 2).toFixed(0)} MiB`
  if (winners === 0)
    return failed(`neither of two racing uploads of ${size} succeeded`, "large shards cannot be uploaded")
  if (!intact)
    return failed(`an upload of ${size} in parts reads back as other bytes`, "large shards would be damaged")
  if (winners > 1)
    return warning(
      `an upload of ${size} in parts reads back as written; two that raced to create one object both succeeded`,
      "harmless as long as no two runs write the same key, and every attempt writes keys of its own",
    )
  return ok(
    `an upload of ${size} in parts reads back as written; of two that raced to create one object, one won`,
  )
}

export const multipart: StoreCheck = {
  name: "multipart",
  lavish: true,
  withoutIt: "shards above 16 MiB cannot be uploaded",
  make: async (...at) => judgeMultipart(await observeMultipart(...at)),
}
