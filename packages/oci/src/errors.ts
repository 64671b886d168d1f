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

/** Text that should be a repository name and is not. */
export class NameInvalidError extends DarterError {
  readonly code = 'NAME_INVALID'

  constructor(text: string) {
    super(
      `${quoted(text)} is not a repository name: expected lower-case words joined by ".", "_", "__", "-" or "/", at most 255 characters`,
    )
  }
}

/** Text that should be a tag and is not. */
export class TagInvalidError extends DarterError {
  readonly code = 'TAG_INVALID'

  constructor(text: string) {
    super(
      `${quoted(text)} is not a tag: expected 1 to 128 letters, digits, "_", "." or "-", not starting with "." or "-"`,
    )
  }
}

/** Bytes that should be a manifest and are not. */
export class ManifestInvalidError extends DarterError {
  readonly code = 'MANIFEST_INVALID'

  /** @param reason - what is wrong with it, as the end of a sentence that starts "The manifest". */
  constructor(reason: string, options?: ErrorOptions) {
    super(`The manifest ${reason}`, options)
  }
}
