import { DarterError, quoted } from '@darter/oci'

/** A host that clients may not reach through the forward proxy. */
export class HostNotAllowedError extends DarterError {
  readonly code = 'HOST_NOT_ALLOWED'

  constructor(authority: string) {
    super(
      `${quoted(authority)} is neither an upstream nor among the hosts of the forward proxy; allow it with --proxy-tunnel-host`,
    )
  }
}

/** More tunnels are open than the forward proxy keeps. */
export class TunnelsBusyError extends DarterError {
  readonly code = 'TUNNELS_BUSY'

  constructor(limit: number) {
    super(`${limit} tunnels are open already; try again later`)
  }
}

/** The host at the other end of a tunnel could not be reached. */
export class TunnelFailedError extends DarterError {
  readonly code = 'TUNNEL_FAILED'

  constructor(authority: string, reason: string, options?: ErrorOptions) {
    super(`no tunnel to ${quoted(authority)}: ${reason}`, options)
  }
}

/** The certificate of the proxy's own authority is past its end. */
export class AuthorityExpiredError extends DarterError {
  readonly code = 'AUTHORITY_EXPIRED'

  constructor(file: string) {
    super(
      `the certificate in ${quoted(file)} has expired: remove the file, run \`darter ca\` for a new one, and give that to the clients`,
    )
  }
}
