/** Making an earlier snapshot live again. */
import { assertWholeNumber, invalidInput, isVecsnapError, notFound } from "../errors.js"
import { nothingPublished, readManifest, readPointer } from "../manifest/current.js"
import { assertRunId } from "../manifest/history.js"
import { type Pointer, type Publication, publicationsOf } from "../manifest/pointer.js"
import { type Published, publishManifest } from "../manifest/publish.js"
import { loadSigning, type SigningOptions } from "../manifest/signing.js"
import { type Root, type RootCallOptions, withRoot } from "../storage/root.js"

export interface RollbackOptions extends RootCallOptions, SigningOptions {
  /** Run to go back (or forward) to; it must have been published before. */
  readonly to?: string | undefined
  /** Snapshots to go back by, in the order in which they were first published; default 1. Not with `to`. */
  readonly steps?: number | undefined
}

/**
 * Makes an earlier snapshot live, by the same compare-and-set as a publication. A build that is going on
 * started from what is live now, so it can't publish over the rollback unless forced.
 *
 * Throws `NotFound` if there is no such snapshot (any more), `Corrupt` if files of it are missing, `Conflict`
 * if somebody publishes at the same moment, `InvalidInput` if what is live is signed and no key is given;
 * nothing has changed then.
 */
export async function rollback(root: Root, options: RollbackOptions = {}): Promise<Published> {
  return withRoot(root, options, async (store) => {
    const { signal } = options
    const signing = await loadSigning(options)
    const live = await readPointer(store, { signal })
    if (live === undefined) throw nothingPublished(store)
    const target = rollbackTarget(live, options, store.url)
    const manifest = await readManifest(store, target.manifest, { signal }).catch((error) => {
      if (!isVecsnapError(error, "NotFound")) throw error
      throw notFound(`snapshot ${target.run} at ${store.url} was collected: its manifest is gone`, {
        run: target.run,
      })
    })
    return publishManifest(store, target.manifest, manifest, {
      action: "rollback",
      expected: live,
      signing,
      signal,
    })
  })
}

/** Which publication a rollback goes to. Pure; throws `InvalidInput` or `NotFound`. */
function rollbackTarget(live: Pointer, { to, steps }: RollbackOptions, url: string): Publication {
  if (to !== undefined && steps !== undefined)
    throw invalidInput("a rollback takes a run or a number of steps, not both", { to, steps })
  const snapshots = byFirstPublication(live)
  if (to !== undefined) {
    assertRunId("to", to)
    if (to === live.run) throw invalidInput(`run ${to} is live already at ${url}`, { run: to })
    const found = snapshots.find(({ run }) => run === to)
    if (found !== undefined) return found
    throw notFound(
      `run ${to} was not published at ${url} lately: a rollback goes back to what was live before`,
      {
        run: to,
        url,
      },
    )
  }
  assertWholeNumber("steps", steps, 1)
  const position = snapshots.findIndex(({ run }) => run === live.run)
  const found = snapshots[position - (steps ?? 1)]
  if (found !== undefined) return found
  const earlier = position === 0 ? "none" : `${position}`
  throw notFound(
    `can't go back by ${steps ?? 1} from run ${live.run} at ${url}: ${earlier} was published before it`,
    {
      url,
      run: live.run,
      earlier: position,
    },
  )
}

/** The snapshots that the pointer remembers, once each, in the order in which they were first published. */
function byFirstPublication(live: Pointer): readonly Publication[] {
  const first = new Map<string, Publication>()
  for (const publication of [...publicationsOf(live)].reverse())
    if (!first.has(publication.run)) first.set(publication.run, publication)
  return [...first.values()]
}
