// For scripts/check-inputs.py: reads the inputs named on standard input, one per line, and prints what each holds as JSON.
import { createInterface } from "node:readline"
import { openSource } from "../src/index.js"

for await (const path of createInterface({ input: process.stdin })) {
  const ids: string[] = []
  const vectors: number[][] = []
  let payloads = ""
  try {
    const source = await openSource(path)
    for await (const batch of source.read({})) {
      for (let row = 0; row < batch.rows; row++) {
        ids.push(String(batch.ids.values[row]))
        vectors.push([...batch.vectors.subarray(row * batch.dim, (row + 1) * batch.dim)])
        payloads += `${payloads === "" ? "" : ","}${batch.payloads[row] ?? "null"}`
      }
    }
    console.log(
      `{"ids":${JSON.stringify(ids)},"vectors":${JSON.stringify(vectors)},"payloads":[${payloads}]}`,
    )
  } catch (error) {
    console.log(JSON.stringify({ error: String(error) }))
  }
}
