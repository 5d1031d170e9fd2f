/**
 * Whether an object is what its manifest says. What is not throws `Corrupt`, naming the object and both
 * values.
 */
import { corrupt } from "../errors.js"

export function assertSize(key: string, actual: number, expected: number): void {
  if (actual === expected) return
  throw corrupt(`${key} has ${actual} bytes, the manifest says ${expected}`, { key, expected, actual })
}

/** Nothing to compare with where a format records no checksums. */
export function assertSha256(key: string, actual: string, expected: string | undefined): void {
  if (expected === undefined || actual === expected) return
  throw corrupt(`${key} is damaged: its SHA-256 is ${actual}, the manifest says ${expected}`, {
    key,
    expected,
    actual,
  })
}
