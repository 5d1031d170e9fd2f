import { z } from "zod"
import { schema } from "./schema.js"
import { VARIABLE_PATTERN } from "./variables.js"

/**
 * The JSON Schema (draft 2020-12) of `vecsnap.yaml`, for editors. Made from the schema that checks the file,
 * with what that one does not know: a number, a flag or one of some words may also be given by an environment
 * variable.
 */
export function configJsonSchema(): object {
  const generated = z.toJSONSchema(schema, {
    io: "input",
    unrepresentable: "any",
    override: ({ zodSchema, jsonSchema }) => {
      // YAML has integers of any size; JSON Schema has no other name for them.
      if (zodSchema instanceof z.ZodBigInt) Object.assign(jsonSchema, { type: "integer" })
      const orVariable =
        zodSchema instanceof z.ZodNumber ||
        zodSchema instanceof z.ZodBoolean ||
        zodSchema instanceof z.ZodEnum
      if (!orVariable) return
      const { description, ...own } = jsonSchema
      for (const key of Object.keys(jsonSchema)) delete jsonSchema[key as keyof typeof jsonSchema]
      Object.assign(jsonSchema, {
        ...(description === undefined ? {} : { description }),
        anyOf: [own, { type: "string", pattern: VARIABLE_PATTERN }],
      })
    },
  })
  const { $schema, ...rest } = generated
  return { $schema, title: "vecsnap.yaml", ...rest }
}
