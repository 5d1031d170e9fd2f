import { readFileSync } from "node:fs"

const packageJson = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"))

/** Version of this package, "0.1.0". */
export const VERSION: string = packageJson.version
