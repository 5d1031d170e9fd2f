/** Changes of JSON documents: values put in place of others, swapped, left out, repeated. */
import { parseJson } from "../../src/json.js"
import type { Chance } from "./chance.js"

type Node = { [key: string]: unknown } | unknown[]
type Document = Record<string, unknown>

export interface AlteredDocument {
  readonly document: Document
  /** Where in the document: "shards", "0", "files". */
  readonly path: readonly string[]
  readonly what: string
}

interface Place {
  readonly parent: Node
  readonly key: string
  readonly path: readonly string[]
}

const ODD: readonly ((chance: Chance) => unknown)[] = [
  () => null,
  () => true,
  () => 0,
  () => -1,
  () => 1.5,
  () => 1e308,
  () => -1e308,
  () => 5e-324,
  () => 2 ** 31,
  () => 2 ** 32,
  () => 2 ** 53 - 1,
  () => -(2 ** 53 - 1),
  () => 2n ** 63n,
  () => -(2n ** 64n),
  () => 10n ** 400n,
  () => "",
  () => "NaN",
  () => "__proto__",
  () => "../../../etc/passwd",
  () => `${"a/".repeat(5000)}x`,
  () => "\u001b]0;title\u0007\u202e\u200b\u{e0041}",
  () => "\ud800",
  () => "x".repeat(200_000),
  () => "0".repeat(64),
  () => "99999999-99-99T99:99:99Z",
  () => "+275760-09-13T00:00:00.000Z",
  () => [],
  () => ({}),
  () => ({ __proto__: 1, constructor: { prototype: 1 }, toString: 1, valueOf: 1 }),
  () => ({ toString: 1, length: -1 }),
  () => Array.from({ length: 100_000 }, () => 0),
  () => nested(400),
  (chance) => chance.below(1_000_000),
]

function nested(levels: number): unknown {
  let value: unknown = {}
  for (let level = 0; level < levels; level++) value = level % 2 === 0 ? [value] : { a: value }
  return value
}

/** Alters one or two places of a document; its seal is left to the caller, and not a place. */
export function alterDocument(text: string, chance: Chance): AlteredDocument {
  const { sha256: _, ...document } = parseJson(text) as Document & { sha256?: string }
  const first = alterPlace(document, chance)
  if (!chance.oneIn(4)) return { document, ...first }
  const second = alterPlace(document, chance)
  // Where two places are altered, neither says alone what the document may mean now.
  return { document, path: [], what: `${first.what}; ${second.what}` }
}

function alterPlace(document: Document, chance: Chance): Omit<AlteredDocument, "document"> {
  const places = placesOf(document)
  const place = chance.pick(places)
  const { parent, key, path } = place
  const name = path.join(".")
  const value = valueAt(place)
  switch (chance.below(9)) {
    case 0:
    case 1: {
      const odd = chance.pick(ODD)(chance)
      setAt(place, odd)
      return { path, what: `${name} = ${brief(odd)}` }
    }
    case 2:
      if (typeof value === "number") {
        const other = chance.pick([value + 1, value - 1, -value, value * 2, value * 1e9, value / 3])
        setAt(place, other)
        return { path, what: `${name} = ${other}` }
      }
      if (typeof value === "string" && value.length > 0) {
        const at = chance.below(value.length)
        const other =
          value.slice(0, at) + chance.pick(["", "0", "f", "/", "\\", ".", "\0", "é"]) + value.slice(at + 1)
        setAt(place, other)
        return { path, what: `${name} = ${brief(other)}` }
      }
      setAt(place, chance.pick(ODD)(chance))
      return { path, what: `${name} is odd` }
    case 3:
    case 4: {
      const other = chance.pick(places)
      const theirs = structuredClone(valueAt(other))
      setAt(other, structuredClone(value))
      setAt(place, theirs)
      const same = other.path[0] === path[0]
      return { path: same ? [path[0]!] : [], what: `${name} and ${other.path.join(".")} are swapped` }
    }
    case 5:
      if (Array.isArray(parent)) parent.splice(Number(key), 1)
      else delete parent[key]
      return { path, what: `${name} is left out` }
    case 6: {
      const from = structuredClone(valueAt(chance.pick(places.filter((it) => it.key === key))))
      setAt(place, from)
      return { path, what: `${name} is that of another` }
    }
    case 7:
      if (Array.isArray(value) && value.length > 0) {
        const times = chance.pick([1, 2, 1000, 150_000])
        setAt(place, [...value, ...Array.from({ length: times }, () => value[0])])
        return { path, what: `${name} has ${times} items more` }
      }
      setAt(place, [value])
      return { path, what: `${name} is in a list` }
    default:
      if (Array.isArray(parent)) parent.unshift(structuredClone(value))
      else parent[chance.pick(["__proto__", "x", "length", "k".repeat(100_000)])] = value
      return { path, what: `beside ${name} there is more` }
  }
}

function placesOf(document: Document): Place[] {
  const places: Place[] = []
  const visit = (parent: Node, path: readonly string[]): void => {
    for (const [key, value] of Object.entries(parent)) {
      const place = { parent, key, path: [...path, key] }
      places.push(place)
      if (typeof value === "object" && value !== null) visit(value as Node, place.path)
    }
  }
  visit(document, [])
  return places
}

const valueAt = ({ parent, key }: Place): unknown => (parent as Record<string, unknown>)[key]

const setAt = ({ parent, key }: Place, value: unknown): void => {
  ;(parent as Record<string, unknown>)[key] = value
}

const brief = (value: unknown): string =>
  `${typeof value} ${JSON.stringify(value, (_, item) => (typeof item === "bigint" ? `${item}n` : item))?.slice(0, 60)}`
