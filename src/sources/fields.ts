/**
 * Options of sources: declared fields, the columns to route and filter on, and what the bytes of vectors are.
 */
import { invalidInput } from "../errors.js"
import { FIELD_TYPES, type FieldType } from "../records.js"
import { VECTOR_ENCODINGS, type VectorEncoding } from "../vectors/packed.js"

/** Throws `InvalidInput` for an encoding that there is not. */
export function assertVectorEncoding(encoding: VectorEncoding | undefined): void {
  if (encoding === undefined || VECTOR_ENCODINGS.includes(encoding)) return
  const expected = VECTOR_ENCODINGS.join(", ")
  throw invalidInput(`the vector encoding is ${JSON.stringify(encoding)}, expected one of ${expected}`, {
    encoding,
  })
}

/** Declared fields in order. Throws `InvalidInput` for an unknown type or an empty name. */
export function fieldList(
  fields: Readonly<Record<string, FieldType>>,
): readonly { readonly name: string; readonly type: FieldType }[] {
  return Object.entries(fields).map(([name, type]) => {
    if (name === "") throw invalidInput("a field has an empty name", { name })
    if (!FIELD_TYPES.includes(type)) {
      const expected = FIELD_TYPES.join(", ")
      throw invalidInput(
        `field ${JSON.stringify(name)} has the type ${String(type)}, expected one of ${expected}`,
        {
          name,
          type,
        },
      )
    }
    return { name, type }
  })
}
