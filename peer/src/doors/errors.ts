import { DarterError, quoted } from '@darter/oci'
import { shownTarget } from '../shown-target.ts'

/** A request for something that no registry API has. */
export class RouteUnknownError extends DarterError {
  readonly code = 'ROUTE_UNKNOWN'

  /** @param target - as it came; what may be secret of it is not shown. */
  constructor(target: string) {
    super(
      `there is nothing at ${quoted(shownTarget(target))}: this is an OCI registry, its API is below /v2/; URLs are read below /url/`,
    )
  }
}

/** A request target that is malformed: bad percent-encoding, an absolute URL, a query that contradicts itself. */
export class TargetInvalidError extends DarterError {
  readonly code = 'TARGET_INVALID'

  /**
   * @param target - as it came; what may be secret of it is not shown.
   * @param reason - what is wrong with it, as the end of a sentence that starts with the target.
   */
  constructor(target: string, reason: string) {
    super(`the request target ${quoted(shownTarget(target))} ${reason}`)
  }
}

/** A request target beyond the length that is read. */
export class TargetTooLongError extends DarterError {
  readonly code = 'TARGET_TOO_LONG'

  constructor(length: number, limit: number) {
    super(`the request target has ${length} characters; at most ${limit} are read`)
  }
}

/** A method that the addressed resource does not have. */
export class MethodNotAllowedError extends DarterError {
  readonly code = 'METHOD_NOT_ALLOWED'
  /** For the `Allow` header. */
  readonly allowed: readonly string[]

  constructor(method: string, allowed: readonly string[]) {
    super(`${quoted(method)} is not possible here; allowed: ${allowed.join(', ')}`)
    this.allowed = allowed
  }
}

/** A registry that the configuration does not allow. */
export class UpstreamNotAllowedError extends DarterError {
  readonly code = 'UPSTREAM_NOT_ALLOWED'

  constructor(name: string) {
    super(
      `the registry ${quoted(name)} is not among the configured upstreams; allow it with the option --upstream NAME=URL`,
    )
  }
}

/** A request that names no registry while there is no default one. */
export class UpstreamNotNamedError extends DarterError {
  readonly code = 'UPSTREAM_NOT_NAMED'

  constructor(names: readonly string[]) {
    super(
      `the request names no registry and no default is configured; put one of these before the repository: ${names.slice(0, 16).join(', ')}`,
    )
  }
}

/** A request that has come through this peer before: an upstream leads back to it. */
export class LoopDetectedError extends DarterError {
  readonly code = 'LOOP_DETECTED'

  constructor(upstream: string) {
    super(`the upstream ${quoted(upstream)} leads back to this peer; point it at the registry itself`)
  }
}

/** A body that is longer or shorter than the head of its answer announced. */
export class BodyLengthError extends DarterError {
  readonly code = 'BODY_LENGTH'

  constructor(sent: number, announced: number) {
    super(`an answer announced ${announced} bytes and its body came to ${sent}; the connection was cut`)
  }
}

/** The client went away before the answer was complete. */
export class ClientGoneError extends DarterError {
  readonly code = 'CLIENT_GONE'

  constructor() {
    super('the client closed the connection before the answer was complete')
  }
}
