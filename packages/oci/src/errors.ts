/** The base of every failure that Darter names: a stable `code` for logs, metrics and the HTTP error table. */
export abstract class DarterError extends Error {
  /** Stable, upper-case, underscore-separated; never reused for another failure. */
  abstract readonly code: string

  constructor(message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = new.target.name
  }
}

const SHOWN = 96

/** Untrusted text as it may appear in a message: quoted, control characters escaped, at most 96 characters. */
export function quoted(text: string): string {
  const json = JSON.stringify(text)
  return json.length > SHOWN ? `${json.slice(0, SHOWN)}..."` : json
}

/** Text that should be a digest and is not. */
export class InvalidDigestError extends DarterError {
  readonly code = 'DIGEST_INVALID'

  constructor(text: string) {
    super(`${quoted(text)} is not a digest: expected sha256:<64 hex digits> or sha512:<128 hex digits>`)
  }
}
