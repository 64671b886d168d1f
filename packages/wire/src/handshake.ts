import { encode } from 'cborg'

/**
 * Admission, the first four messages of every control and link stream. Both sides prove that they know the cluster key,
 * now together with the peer ids that Noise has established, before either says anything of itself:
 *
 * dialer `hello`, listener `challenge` (with its proof), dialer `proof`, listener `welcome` (control) or `offer`,
 * `yield` or `full` (link).
 *
 * A proof is HMAC-SHA256 under the cluster key over {@link admissionTranscript}.
 */
export type HandshakeMessage =
  | { readonly type: 'hello'; readonly nonce: Uint8Array }
  | { readonly type: 'challenge'; readonly nonce: Uint8Array; readonly proof: Uint8Array }
  | {
      readonly type: 'proof'
      readonly proof: Uint8Array
      /** On a control stream: where others reach the peer. */
      readonly announce?: Announcement
    }
  /** Admitted: control messages follow. `deadMs`: the silence, in ms, after which each side counts the other as gone. */
  | { readonly type: 'welcome'; readonly deadMs: number }
  /** Admitted: the data port, and a key of TLS 1.3 that is good for the two connections of one link, soon. */
  | { readonly type: 'offer'; readonly port: number; readonly pskId: string; readonly psk: Uint8Array }
  /** The listener is dialling this peer at the same moment: its link will be the one. */
  | { readonly type: 'yield' }
  /** No room for another link now. */
  | { readonly type: 'full' }

/** What a peer says of itself to its scheduler. */
export interface Announcement {
  /** Multiaddrs, each ending in `/p2p/<peer id>`. */
  readonly addresses: readonly string[]
  readonly zone: string
  /** It holds much for long, and fetches cold blobs for the others. */
  readonly seed?: boolean
}

/**
 * What both sides of a TCP connection prove before libp2p reads from it, in three messages of fixed length without
 * framing: the dialer's nonce; the listener's nonce and proof; the dialer's proof. The {@link Transcript} has empty peer
 * ids, as no one has shown theirs yet.
 */
export const GATE_PROTOCOL = '/darter/gate/1'
/** The protocol of a stream that carries control messages. */
export const CONTROL_PROTOCOL = '/darter/control/1'
/** The protocol of a stream on which two neighbours agree on a data link. */
export const LINK_PROTOCOL = '/darter/link/1'

/** What a proof is about: who talks to whom, over which protocol, in which role, with both sides' fresh nonces. */
export interface Transcript {
  readonly protocol: string
  /** Whose proof it is, so that one side's proof is useless to the other. */
  readonly role: 'dialer' | 'listener'
  /** Peer ids, as the Noise handshake established them; empty before it. */
  readonly dialer: string
  readonly listener: string
  readonly dialerNonce: Uint8Array
  readonly listenerNonce: Uint8Array
}

/** The bytes under a proof's MAC: unambiguous, as each part carries its length. */
export function admissionTranscript(transcript: Transcript): Uint8Array {
  const { protocol, role, dialer, listener, dialerNonce, listenerNonce } = transcript
  return encode(['darter admission', protocol, role, dialer, listener, dialerNonce, listenerNonce])
}
