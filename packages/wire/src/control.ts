import type { Digest } from '@darter/oci'

/**
 * What a peer and its scheduler say to each other over one long-lived control stream. Types only; `codec.ts`
 * turns them into frames and refuses whatever does not fit the limits in `limits.ts`.
 */

/** Where a peer can be reached: libp2p multiaddrs, each ending in `/p2p/<peer id>`. */
export interface PeerAddress {
  readonly id: string
  readonly addresses: readonly string[]
  readonly zone: string
}

/** Why one peer complains of another. */
export type Deed = 'wrong-bytes' | 'stalled' | 'vanished' | 'protocol'

/**
 * Where content comes from: a repository, for peers that know the upstream by the same name, or a URL. It tells nothing of
 * anybody's credentials.
 */
export type ContentPlace =
  | { readonly upstream: string; readonly repository: string; readonly kind: 'blob' | 'manifest' }
  /** `digest`: of the bytes; the blob may go by another name. */
  | { readonly url: string; readonly digest: Digest }

/** Something that a preheat could not bring. */
export interface PreheatFailure {
  /** A digest, or the target as a whole. */
  readonly what: string
  /** As in logs and metrics. */
  readonly code: string
  readonly message: string
}

/** From a peer to the scheduler. */
export type PeerMessage =
  /**
   * Takes part in a blob's swarm, or says again what it holds. `held` is a bitfield. `wants`: it is downloading. `upstream`:
   * a word for where the blob comes from, the same for all that comes from there; it names nothing. `place`: where a seed
   * could read it.
   */
  | {
      readonly type: 'join'
      readonly blob: Digest
      readonly size: number
      readonly held: Uint8Array
      readonly wants: boolean
      readonly upstream?: string
      readonly place?: ContentPlace
    }
  /** Chunks that became held since the last word. */
  | { readonly type: 'held'; readonly blob: Digest; readonly chunks: readonly number[] }
  /** Chunks that are no longer held. */
  | { readonly type: 'dropped'; readonly blob: Digest; readonly chunks: readonly number[] }
  /** Holds and wants nothing of the blob any more. */
  | { readonly type: 'leave'; readonly blob: Digest }
  /**
   * How many more leases the peer would work on now (replaces what it said before). `from`: the first chunk it needs.
   * `background`: nobody waits for the blob there.
   */
  | {
      readonly type: 'lease-demand'
      readonly blob: Digest
      readonly slots: number
      readonly from: number
      readonly background?: true
    }
  /** Bytes are flowing under a lease. */
  | { readonly type: 'lease-alive'; readonly blob: Digest; readonly lease: number }
  /** A lease is over: all its chunks came, or the origin failed, or the peer gives it back. */
  | {
      readonly type: 'lease-end'
      readonly blob: Digest
      readonly lease: number
      readonly outcome: 'done' | 'failed' | 'released'
      /** The origin ignores ranges: only the whole blob can be leased. */
      readonly wholeOnly?: boolean
      /** The origin asked to wait, ms. */
      readonly retryAfterMs?: number
    }
  /** The peer hashed the whole blob: these are the sha256 of its chunks, 32 bytes each, in order. */
  | { readonly type: 'vouch'; readonly blob: Digest; readonly size: number; readonly hashes: Uint8Array }
  | { readonly type: 'blame'; readonly peer: string; readonly blob: Digest; readonly deed: Deed }
  /** Asks for a shared fact, such as what a tag stands for. `stale`: the last value will do, however old. */
  | { readonly type: 'ask'; readonly id: number; readonly key: string; readonly stale: boolean }
  /** Answers for all that asked; `value` undefined: it could not be found out. */
  | { readonly type: 'tell'; readonly key: string; readonly value?: string; readonly ttlMs: number }
  /**
   * A seed does not fetch what it was asked for: the upstream is none of its own or refuses it (`refused`), reading failed
   * (`failed`), or it has enough to do (`busy`).
   */
  | { readonly type: 'seed-end'; readonly blob: Digest; readonly reason: 'refused' | 'failed' | 'busy' }
  /** How a preheat goes on: bytes that are held, of all that are known of so far. The last word of a job is not `running`. */
  | {
      readonly type: 'preheat-state'
      readonly job: string
      readonly state: 'running' | 'done' | 'failed' | 'cancelled'
      readonly held: number
      readonly size: number
      readonly failures: readonly PreheatFailure[]
    }

/** From the scheduler to a peer. */
export type SchedulerMessage =
  /** The peers to talk to about a blob; replaces the earlier list. */
  | { readonly type: 'neighbours'; readonly blob: Digest; readonly peers: readonly PeerAddress[] }
  /** The peer may fetch chunks [from, to) of the blob from the origin now. */
  | {
      readonly type: 'lease'
      readonly blob: Digest
      readonly lease: number
      readonly from: number
      readonly to: number
    }
  /**
   * To a seed: join the blob's swarm and fetch all of it. `background`: nobody waits for all of it; the same without this
   * follows when somebody does.
   */
  | {
      readonly type: 'seed'
      readonly blob: Digest
      readonly size: number
      readonly place: ContentPlace
      readonly background?: true
    }
  /** Bring an image, a blob or the content of a URL into the store. What it takes is forgotten when the job is over. */
  | {
      readonly type: 'preheat'
      readonly job: string
      /** As on the command line: `[UPSTREAM/]REPOSITORY[:TAG|@DIGEST]`, or a URL. */
      readonly target: string
      /** The digest that the content of a URL has. */
      readonly digest?: Digest
      /** Which image of an index; the peer's own when left out. */
      readonly platform?: string
      /** `Authorization` for the target's upstream. Never logged. */
      readonly authorization?: string
    }
  | { readonly type: 'preheat-cancel'; readonly job: string }
  /** From now on each side counts the other as gone after so long a silence, in ms; at first, what `welcome` said. */
  | { readonly type: 'silence'; readonly deadMs: number }
  /** A lease is void: it lapsed. */
  | { readonly type: 'lease-void'; readonly blob: Digest; readonly lease: number }
  /** The verified chunk list, 32 bytes for each chunk. Empty: the list sent before is no longer believed. */
  | { readonly type: 'verified'; readonly blob: Digest; readonly hashes: Uint8Array }
  /**
   * Answers an `ask`. `known`: `value` is fresh (or the last one, as asked). `find-out`: the asker is the one to find
   * out, then `tell`. `unknown`: there is no last value.
   */
  | {
      readonly type: 'answer'
      readonly id: number
      readonly state: 'known' | 'find-out' | 'unknown'
      readonly value?: string
    }
