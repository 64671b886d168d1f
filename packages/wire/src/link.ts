import type { Digest } from '@darter/oci'

/** What two neighbours tell each other of a blob, between the chunks that travel on the same link. */
export type LinkMessage =
  /** Wants to hear of this blob, and says what it holds of it. Answered by a `holds` when the other side knows the blob. */
  | {
      readonly type: 'interest'
      readonly blob: Digest
      readonly size: number
      /** Bitfield of the chunks that the sender holds. */
      readonly held: Uint8Array
      /** The sha256 of each held chunk, ascending, 32 bytes each. */
      readonly hashes: Uint8Array
    }
  /** What the sender holds of a blob that the other side is interested in. */
  | {
      readonly type: 'holds'
      readonly blob: Digest
      readonly size: number
      readonly held: Uint8Array
      readonly hashes: Uint8Array
    }
  /** A chunk that the sender has just verified. */
  | { readonly type: 'have'; readonly blob: Digest; readonly chunk: number; readonly hash: Uint8Array }
  /** A chunk that the sender no longer has. */
  | { readonly type: 'lost'; readonly blob: Digest; readonly chunk: number }
  /** No more interested. */
  | { readonly type: 'leave'; readonly blob: Digest }
