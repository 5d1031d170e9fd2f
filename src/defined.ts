/** `T` with a value for every property: what options are once their defaults are filled in. */
export type Defined<T> = { readonly [K in keyof T]-?: Exclude<T[K], undefined> }

/**
 * An object without its undefined properties: as `exactOptionalPropertyTypes` wants them, and so that an
 * option that is undefined leaves the default that it is spread over.
 */
export function withoutUndefined<T extends object>(value: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(value).filter(([, item]) => item !== undefined)) as {
    [K in keyof T]: Exclude<T[K], undefined>
  }
}
