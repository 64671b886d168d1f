import type { Digest } from '@darter/oci'

/** What two neighbours tell each other of a blob. */
export type LinkMessage = Introduction | Notice

/** What begins and ends the neighbours' talk of a blob. */
export type Introduction =
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
  /** No more interested. */
  | { readonly type: 'leave'; readonly blob: Digest }

/** What is told for each chunk. `load`: how many chunks the sender waits for, from anyone and of any blob. */
export type Notice =
  /** A chunk that the sender has just verified. */
  | {
      readonly type: 'have'
      readonly blob: Digest
      readonly chunk: number
      readonly load: number
      /** sha256 of the chunk. */
      readonly hash: Uint8Array
    }
  /** A chunk that the sender has asked someone else for: it need not be offered it. */
  | { readonly type: 'expect'; readonly blob: Digest; readonly chunk: number; readonly load: number }
  /** A chunk that the sender no longer has, or expects from nobody any more. */
  | { readonly type: 'lost'; readonly blob: Digest; readonly chunk: number }
  /** The other side may request a chunk now; this one is suggested. Answered by a request or a `pass`. */
  | { readonly type: 'slot'; readonly blob: Digest; readonly chunk: number }
  /** The sender has no use for a slot now. */
  | { readonly type: 'pass'; readonly blob: Digest }
  /** The sender, that passed before, has use for slots again. */
  | { readonly type: 'want'; readonly blob: Digest }
