/** Files of cells for databases that a test has changed. */
import { createHash } from "node:crypto"
import { readFile, writeFile } from "node:fs/promises"
import { dirname, join } from "node:path"
import { decodeCells, encodeCells, SUM_STRETCH } from "../../src/vectors/cells/file.js"

/** Puts the cells that lie beside the database `sound` beside `changed`, as those of what it is now. */
export async function fitCells(sound: string, changed: string): Promise<void> {
  const cells = decodeCells(await readFile(join(dirname(sound), "cells.bin")), "cells.bin")
  const database = await readFile(changed)
  const stretches = Array.from({ length: Math.ceil(database.length / SUM_STRETCH) }, (_, i) =>
    database.subarray(i * SUM_STRETCH, (i + 1) * SUM_STRETCH),
  )
  const sums = Buffer.concat(stretches.map((stretch) => createHash("sha256").update(stretch).digest()))
  const bytes = encodeCells({ ...cells, database: { ...cells.database, bytes: database.length, sums } })
  await writeFile(join(dirname(changed), "cells.bin"), bytes)
}
