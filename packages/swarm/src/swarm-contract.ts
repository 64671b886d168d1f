import type { LeaseTimes } from './leases.ts'

/** What the scheduler is to tell a peer about one blob. */
export type SwarmEffect =
  | { readonly type: 'neighbours'; readonly to: string; readonly peers: readonly string[] }
  | {
      readonly type: 'lease'
      readonly to: string
      readonly lease: number
      readonly from: number
      readonly toChunk: number
    }
  | { readonly type: 'lease-void'; readonly to: string; readonly lease: number }
  | { readonly type: 'verified'; readonly to: string; readonly hashes: Uint8Array }

/** How a swarm is shaped. */
export interface SwarmShape {
  /** Neighbours of each wanting peer. */
  readonly degree: number
  /** Edges between neighbours across each zone's border. */
  readonly crossLinks: number
  /** Leases on one upstream at first: bounds the connections that its origin sees. */
  readonly firstLeases?: number
  /** Leases on one upstream at the same time, over all peers, at most (but one for each blob). */
  readonly maxLeases: number
  /** Leases of one peer when it is alone; with more peers each has fewer. */
  readonly maxLeasesPerPeer: number
  readonly leaseTimes?: LeaseTimes
}

/** The shape that production starts from. */
export const DEFAULT_SWARM_SHAPE = {
  degree: 10,
  crossLinks: 16,
  firstLeases: 4,
  maxLeases: 32,
  maxLeasesPerPeer: 4,
} as const satisfies SwarmShape

/** What a swarm is told of a member beside what it holds. */
export interface MemberTraits {
  /** Peers of one zone are near each other; '' when left out. */
  readonly zone?: string
  /** It is there to hold much for long: when it wants the blob, it gets leases before others. */
  readonly seed?: boolean
}
