const KIB = 1024

/** Bounds on what one side believes the other side may send. Beyond them a stream is closed. */
export const LIMITS = {
  /** A control or link message, encoded, in bytes: a bitfield with hashes for 64 Ki chunks fits. */
  messageBytes: 4 * 1024 * KIB,
  /** A handshake message, encoded, in bytes: all that is read from someone who has not proved the cluster key. */
  handshakeBytes: 4 * KIB,
  /** A nonce of the handshake, in bytes. */
  nonceBytes: 32,
  /** A proof of the cluster key, in bytes: an HMAC-SHA256. */
  proofBytes: 32,
  /** The key of one data link, in bytes. */
  pskBytes: 32,
  /** A piece of a chunk's body on a link, in bytes. */
  pieceBytes: 256 * KIB,
  /** Peers in one `neighbours` message. */
  neighbours: 64,
  /** Addresses of one peer. */
  addresses: 16,
  /** Characters of one address. */
  addressChars: 256,
  /** Chunks in one `held` or `dropped` message. */
  chunkIndices: 65_536,
  /** Characters in a fact's key or value. */
  factChars: 4096,
  /** Characters of what is to be preheated (or of a URL that content comes from), and of the credentials for it. */
  targetChars: 4096,
  authorizationChars: 8192,
  /** Failures that one word about a preheat tells; characters of each one's message. */
  preheatFailures: 8,
  failureChars: 512,
  /** The longest silence on a control stream that a scheduler may ask for, in ms. */
  deadMs: 600_000,
  /** Messages and chunks queued for one link or control stream, in bytes, before the other side counts as stalled. */
  sendQueueBytes: 16 * 1024 * KIB,
} as const
