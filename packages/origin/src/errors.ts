import { DarterError } from '@darter/oci'

/** Header names in lower case; a repeated header has a list. */
export type Headers = Readonly<Record<string, string | string[]>>

/** The most of a refusal's body that is kept, in bytes. */
export const MAX_ERROR_BODY_BYTES = 64 * 1024

/** The origin answered, and said no. Its answer is here to be passed on. */
export class OriginStatusError extends DarterError {
  readonly code = 'ORIGIN_STATUS'
  readonly status: number
  /** The origin's own, such as `www-authenticate` and `retry-after`; hop-by-hop headers and `content-length` left out. */
  readonly headers: Headers
  /** The first {@link MAX_ERROR_BODY_BYTES} of the answer's body. */
  readonly body: Uint8Array

  /** @param subject - who refused what, such as `docker.io: GET library/nginx/manifests/latest`. */
  constructor(subject: string, status: number, headers: Headers, body: Uint8Array) {
    super(`${subject} was answered with status ${status}`)
    this.status = status
    this.headers = headers
    this.body = body
  }
}

/** No answer came: no address, no route, refused, reset, or TLS that does not verify. */
export class OriginUnreachableError extends DarterError {
  readonly code = 'ORIGIN_UNREACHABLE'
  /** Another try at once may well succeed, as after a reset. */
  readonly transient: boolean

  constructor(message: string, options: ErrorOptions & { readonly transient?: boolean } = {}) {
    super(message, options)
    this.transient = options.transient ?? false
  }
}

/** `queue`: waiting for a free connection; `connect`: TCP and TLS; `headers`: from the request to the answer's head. */
export type OriginPhase = 'queue' | 'connect' | 'headers'

/** A phase before the first byte took too long. */
export class OriginTimeoutError extends DarterError {
  readonly code = 'ORIGIN_TIMEOUT'
  readonly phase: OriginPhase

  constructor(subject: string, phase: OriginPhase, ms: number, options?: ErrorOptions) {
    super(`${subject} took longer than ${ms} ms (${phase})`, options)
    this.phase = phase
  }
}

/** A body made no progress for too long. */
export class OriginStalledError extends DarterError {
  readonly code = 'ORIGIN_STALLED'

  constructor(subject: string, ms: number, received: number) {
    super(`${subject} sent no byte for ${ms} ms after ${received} bytes`)
  }
}

/** A body broke off or ended short of its announced length. */
export class OriginInterruptedError extends DarterError {
  readonly code = 'ORIGIN_INTERRUPTED'

  constructor(subject: string, received: number, expected: number | undefined, options?: ErrorOptions) {
    super(`${subject} broke off after ${received} of ${expected ?? 'an unknown number of'} bytes`, options)
  }
}

/** The origin's answer contradicts the request or itself: a wrong range, a wrong digest, a manifest without end. */
export class OriginProtocolError extends DarterError {
  readonly code = 'ORIGIN_PROTOCOL'
}

/** The origin redirected to where Darter does not follow. */
export class OriginRedirectError extends DarterError {
  readonly code = 'ORIGIN_REDIRECT'
}

/** The origin lies further inside the network than its being allowed reaches. */
export class OriginAddressError extends DarterError {
  readonly code = 'ORIGIN_ADDRESS'
}

/** The origin's content became another one while it was read; to be asked for again. */
export class OriginChangedError extends DarterError {
  readonly code = 'ORIGIN_CHANGED'

  constructor(subject: string) {
    super(`${subject} sent another version than the one that was begun with; ask again`)
  }
}

/** Credentials are configured and cannot be had: an unreadable docker `config.json`, a failing credential helper. */
export class OriginCredentialsError extends DarterError {
  readonly code = 'ORIGIN_CREDENTIALS'
}
