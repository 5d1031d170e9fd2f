import { withPackage } from "../../packages.js"

export type LanceDb = typeof import("@lancedb/lancedb")
export type Arrow = typeof import("apache-arrow")

export function loadLanceDb(): Promise<LanceDb> {
  return withPackage("@lancedb/lancedb", "the lancedb backend", () => import("@lancedb/lancedb"))
}

/** LanceDB's peer, and what its tables are made of. */
export function loadArrow(): Promise<Arrow> {
  return withPackage("apache-arrow", "the lancedb backend", () => import("apache-arrow"))
}
