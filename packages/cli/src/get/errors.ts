import { DarterError, type Digest } from '@darter/oci'

/** No peer answers on this machine. */
export class PeerNotRunningError extends DarterError {
  readonly code = 'PEER_NOT_RUNNING'

  constructor(address: string, cause: unknown) {
    super(
      `no peer answers at ${address}; start one with \`darter up\`, or name its address with --door-host and --door-port`,
      { cause },
    )
  }
}

/** The peer, or the origin through it, refused the content. */
export class GetRefusedError extends DarterError {
  readonly code = 'GET_REFUSED'
  /** Another try may well succeed. */
  readonly transient: boolean

  constructor(message: string, transient: boolean) {
    super(message)
    this.transient = transient
  }
}

/** The bytes of a file stopped coming before its end, several times in a row. */
export class GetInterruptedError extends DarterError {
  readonly code = 'GET_INTERRUPTED'

  constructor(received: number, size: number | undefined, cause: unknown) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    super(
      `the content broke off after ${received} of ${size ?? 'an unknown number of'} bytes (${reason}); the same command goes on from there`,
      { cause },
    )
  }
}

/** What came has another digest than it should. */
export class GetDigestError extends DarterError {
  readonly code = 'GET_DIGEST'

  constructor(wanted: Digest, actual: Digest) {
    super(`the content has the digest ${actual}, not ${wanted}`)
  }
}

/** The file cannot be written where it should be. */
export class GetTargetError extends DarterError {
  readonly code = 'GET_TARGET'
}
