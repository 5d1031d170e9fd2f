/** Values that a caller hands over, checked to be what JSON can hold. */
import { VALUE_MAX_DEPTH } from "./json.js"
import { kindOf, shortened, withArticle } from "./wording.js"

const SHOWN_PATH = 200

/**
 * Throws what `fail` makes of the first place in `value` that JSON would drop or alter silently, and for more
 * than {@link VALUE_MAX_DEPTH} levels. Properties that are `undefined` are left out.
 *
 * @param path what the value is called in messages
 */
export function assertJson(
  value: unknown,
  path: string,
  fail: (path: string, problem: string) => Error,
  parents: readonly unknown[] = [],
): void {
  if (value === null || ["string", "boolean", "bigint"].includes(typeof value)) return
  if (typeof value === "number") {
    if (Number.isFinite(value)) return
    throw fail(path, `is ${value}, which JSON cannot hold`)
  }
  if (typeof value !== "object") throw fail(path, `is ${describe(value)}, which JSON cannot hold`)
  if (parents.includes(value)) throw fail(path, "contains itself, which JSON cannot hold")
  if (parents.length === VALUE_MAX_DEPTH) throw fail(path, `is nested deeper than ${VALUE_MAX_DEPTH} levels`)
  const inner = [...parents, value]
  const place = path.length > SHOWN_PATH ? `...${path.slice(-SHOWN_PATH)}` : path
  if (Array.isArray(value)) {
    value.forEach((item, i) => {
      assertJson(item, `${place}[${i}]`, fail, inner)
    })
  } else if (isPlainObject(value)) {
    for (const [key, member] of Object.entries(value))
      if (member !== undefined) assertJson(member, `${place}.${shortened(key)}`, fail, inner)
  } else {
    throw fail(path, `is ${describe(value)}, which JSON cannot hold`)
  }
}

// Also of another realm, whose Object is another.
function isPlainObject(value: object): boolean {
  const prototype = Object.getPrototypeOf(value)
  return prototype === null || Object.getPrototypeOf(prototype) === null
}

function describe(value: unknown): string {
  const name = typeof value === "object" && value !== null ? value.constructor?.name : undefined
  return name === undefined ? kindOf(value) : withArticle(String(name))
}
