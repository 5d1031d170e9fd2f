/** All checks of a store, in the order in which they are made. */
import type { StoreCheck } from "./check.js"
import { clock } from "./clock.js"
import { conditionalCreate } from "./conditional-create.js"
import { conditionalOverwrite } from "./conditional-overwrite.js"
import { conditionalRead } from "./conditional-read.js"
import { connection } from "./connection.js"
import { deletion } from "./delete.js"
import { latency } from "./latency.js"
import { listing } from "./listing.js"
import { multipart } from "./multipart.js"
import { objects } from "./objects.js"
import { paging } from "./paging.js"
import { permissions } from "./permissions.js"
import { ranges } from "./ranges.js"

export const CHECKS: readonly StoreCheck[] = [
  connection,
  objects,
  latency,
  ranges,
  conditionalRead,
  conditionalCreate,
  conditionalOverwrite,
  deletion,
  listing,
  paging,
  clock,
  multipart,
  permissions,
]
