import { DarterError, type Digest } from '@darter/oci'

/** The origin answers every range with the whole blob. */
export class OriginIgnoresRangesError extends DarterError {
  readonly code = 'ORIGIN_IGNORES_RANGES'

  constructor(digest: Digest) {
    super(`the origin ignored the range that was asked of ${digest}; it is read as a whole`)
  }
}

/** The origin's blob has another size than the manifest told. */
export class OriginSizeError extends DarterError {
  readonly code = 'ORIGIN_SIZE'

  constructor(digest: Digest, expected: number, actual: number) {
    super(
      `${digest} has ${actual} bytes at the origin, not ${expected} as its manifest says; is the manifest damaged?`,
    )
  }
}

/** What the origin serves under a digest does not hash to it. */
export class OriginCorruptError extends DarterError {
  readonly code = 'ORIGIN_CORRUPT'

  constructor(digest: Digest) {
    super(`what the origin serves as ${digest} has another digest`)
  }
}

/** A response had already carried bytes that turned out to be wrong: it must be cut. */
export class WrongBytesSentError extends DarterError {
  readonly code = 'WRONG_BYTES_SENT'

  constructor(digest: Digest) {
    super(`part of ${digest} that was passed on was wrong; the response is cut and the blob fetched again`)
  }
}

/** No source gave anything within the time that a client can be kept waiting. */
export class NoSourceError extends DarterError {
  readonly code = 'NO_SOURCE'

  constructor(what: string, cause: unknown) {
    super(`neither a peer nor the origin delivered ${what}`, { cause })
  }
}

/** The store has no room for a blob that was to be kept. */
export class StoreFullError extends DarterError {
  readonly code = 'STORE_FULL'

  constructor(digest: Digest) {
    super(`there is no room in the store for ${digest}; give it a larger quota, or the disk more space`)
  }
}

/** The peer is stopping. */
export class PeerStoppingError extends DarterError {
  readonly code = 'PEER_STOPPING'

  constructor() {
    super('this peer is stopping; ask again when it is back')
  }
}
