/** Where a chunk came from. */
export type ChunkOrigin = { readonly kind: 'origin' } | { readonly kind: 'neighbour'; readonly id: string }

/** How a neighbour's link ended, when not in order. */
export type LinkDeed = 'stalled' | 'vanished' | 'protocol'

/** What the driver is to do; in the order given. */
export type SessionEffect =
  /** Request a chunk, and tell the other neighbours that it is expected. */
  | { readonly type: 'request'; readonly neighbour: string; readonly chunk: number }
  /** A neighbour's slot is of no use now. */
  | { readonly type: 'pass'; readonly neighbour: string }
  /** A neighbour whose slot was of no use is to offer one again. */
  | { readonly type: 'want'; readonly neighbour: string }
  /** Tell all neighbours that a chunk is expected from nobody any more. */
  | { readonly type: 'unexpect'; readonly chunk: number }
  | { readonly type: 'cancel'; readonly neighbour: string; readonly chunk: number }
  /** Read chunks [from, to) from the origin; `fetch` names the read in later events. */
  | {
      readonly type: 'fetch-origin'
      readonly fetch: number
      /** Undefined for a read on this peer's own account. */
      readonly lease: number | undefined
      readonly from: number
      readonly to: number
    }
  | { readonly type: 'stop-origin'; readonly fetch: number }
  /** `background`: nobody waits for what is read under these leases. */
  | {
      readonly type: 'lease-demand'
      readonly slots: number
      readonly from: number
      readonly background?: true
    }
  | {
      readonly type: 'lease-end'
      readonly lease: number
      readonly outcome: 'done' | 'failed' | 'released'
      readonly wholeOnly?: boolean
      readonly retryAfterMs?: number
    }
  | {
      readonly type: 'blame'
      readonly neighbour: string
      readonly deed: 'wrong-bytes' | LinkDeed
    }
  /** No source gave anything for too long, or the origin refuses and nobody else has it: readers must be told. */
  | { readonly type: 'give-up' }

/**
 * How much of a blob is wanted besides what readers of ranges want. `nothing`; `background`: everything, as far as the
 * {@link Allowance} goes, after what readers wait for; `everything`: as if somebody read all of it.
 */
export type Appetite = 'nothing' | 'background' | 'everything'

/** How much may be fetched in the background. */
export interface Allowance {
  /** Whether a chunk of so many bytes may be fetched now. */
  has(bytes: number, now: number): boolean
  /** The same, and it is fetched. */
  take(bytes: number, now: number): boolean
}

/** Times and bounds of a session; all times in ms. */
export interface SessionLimits {
  /** The scheduler's answer to a join is awaited this long before the origin is read without it. */
  readonly schedulerPatienceMs: number
  /** Without a new chunk for this long the origin is read without a lease (plus up to half as much again at random). */
  readonly rescueAfterMs: number
  /**
   * The same while the swarm is at work: the neighbours have nothing either, so that others read a cold blob for all, or they
   * tell of new chunks. If all who wait for their turn read the origin, nobody would get anything.
   */
  readonly coldRescueAfterMs: number
  /** Neighbours that told of a chunk within this time are at work. */
  readonly aliveMs: number
  /** Without a new byte for this long the session gives up. */
  readonly giveUpAfterMs: number
  /** Leases worked on at the same time, and origin reads without a lease. */
  readonly maxOriginFetches: number
  /** Chunks in flight from neighbours, in bytes; bounds memory. */
  readonly maxInFlightBytes: number
  /** The in-order window before a reader of a range, in chunks. */
  readonly readerWindow: number
  /** A neighbour that has had something for this long is asked without a slot when nothing is in flight. */
  readonly pokeAfterMs: number
  /** A request older than this and much older than expected is asked of another neighbour too. */
  readonly hedgeAfterMs: number
  /** A reader of a range waits this long for the neighbours to say what they hold. */
  readonly introductionMs: number
  /** Origin failures in a row, with nobody else to ask, after which the session gives up. */
  readonly maxOriginFailures: number
}

/** The limits that production starts from. */
export const DEFAULT_SESSION_LIMITS: SessionLimits = {
  schedulerPatienceMs: 500,
  rescueAfterMs: 4_000,
  coldRescueAfterMs: 12_000,
  aliveMs: 2_000,
  giveUpAfterMs: 40_000,
  maxOriginFetches: 4,
  maxInFlightBytes: 64 * 1024 * 1024,
  readerWindow: 4,
  pokeAfterMs: 1_500,
  hedgeAfterMs: 1_000,
  introductionMs: 300,
  maxOriginFailures: 3,
}
