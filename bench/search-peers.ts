/** LanceDB's indexes in bench:search: which are tried, and how much each looks at for a recall. */
import { existsSync } from "node:fs"
import { rename, rm } from "node:fs/promises"
import { join } from "node:path"
import { buildPeer, openPeer, type Peer, type PeerIndex, type Search, tunePeer } from "./peer.js"
import type { SearchSet } from "./search-sets.js"
import { underLoad } from "./support.js"

/** The most candidates of a graph; beyond them an index is not used. */
export const MOST_CANDIDATES = 4096
/** True neighbours that are asked for. */
export const K = 10
/** The load at which the best index is chosen, and beside which batches of the graphs are put. */
export const MOST_IN_FLIGHT = 16

/** A run takes many minutes: what it is at is told on standard error. */
export const say = (set: SearchSet, what: string): void => console.error(`${set.name}: ${what}`)

/** An index of LanceDB that is open, with how much may be asked of it. */
export interface OpenPeer {
  readonly index: PeerIndex
  /** As people would say it: "IVF_PQ, 10 times refined". */
  readonly name: string
  readonly refine: number | undefined
  readonly peer: Peer
  readonly most: number
}

/** Opens the indexes of LanceDB, which are built unless they are there; IVF_PQ and HNSW_SQ twice. */
export async function openPeers(set: SearchSet, dir: string): Promise<readonly OpenPeer[]> {
  const some = set.partitions[set.partitions.length >> 1]!
  const indexes: readonly (PeerIndex & { readonly refines: readonly (number | undefined)[] })[] = [
    ...set.partitions.map((partitions) => ({ kind: "IVF_FLAT" as const, partitions, refines: [undefined] })),
    { kind: "IVF_PQ", partitions: some, refines: [5, 20] },
    { kind: "HNSW_SQ", partitions: 1, refines: [undefined, 3] },
  ]
  const opened: OpenPeer[] = []
  for (const { refines, ...index } of indexes) {
    const { kind, partitions } = index
    const url = join(dir, peerFolder(index))
    if (!existsSync(url)) {
      // A table without its index, of a run that was stopped, would be searched all the same.
      await rm(`${url}.part`, { recursive: true, force: true })
      await buildPeer(set, `${url}.part`, index)
      await rename(`${url}.part`, url)
    }
    for (const refine of refines) {
      opened.push({
        index,
        refine,
        name: `LanceDB ${kind}${refine === undefined ? "" : `, refined ${refine} times`}`,
        peer: await openPeer(url, { kind, k: K, refine }),
        most: kind === "HNSW_SQ" ? MOST_CANDIDATES : partitions,
      })
    }
  }
  return opened
}

export const peerFolder = ({ kind, partitions }: PeerIndex): string => `peer-${kind}-${partitions}`

export interface TunedPeer extends OpenPeer {
  readonly effort: number
  readonly search: Search
  /** Queries per second. */
  readonly speed: number
}

/** Those indexes that reach the recall, by falling queries per second with 16 in flight. */
export async function tunedPeers(
  set: SearchSet,
  peers: readonly OpenPeer[],
  target: number,
): Promise<readonly TunedPeer[]> {
  const all: TunedPeer[] = []
  for (const one of peers) {
    const tuned = await tunePeer(one.peer, set.tuning, set.tuningTruth, target, one.most)
    if (tuned === undefined) continue
    const search = one.peer(tuned.effort)
    const speed = (await underLoad(set.measured, MOST_IN_FLIGHT, search)).queriesPerSecond
    const peer = { ...one, effort: tuned.effort, search, speed }
    say(set, `${peer.name} finds ${target} with ${effortText(peer)}, ${speed} queries/s`)
    all.push(peer)
  }
  return all.sort((a, b) => b.speed - a.speed)
}

/** Of each kind of index the best one at .95: only these are tuned to all targets. */
export async function bestOfKinds(set: SearchSet, peers: readonly OpenPeer[]): Promise<readonly TunedPeer[]> {
  const ranked = await tunedPeers(set, peers, 0.95)
  return ranked.filter(({ index }, i) => ranked.findIndex((one) => one.index.kind === index.kind) === i)
}

export const effortText = ({ index, effort }: Pick<TunedPeer, "index" | "effort">): string =>
  index.kind === "HNSW_SQ" ? `${effort} candidates` : `${effort} of ${index.partitions} partitions`
