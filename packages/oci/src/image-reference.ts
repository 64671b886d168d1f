import { DarterError, quoted } from './errors.ts'
import { parseReference, type Reference } from './reference.ts'

/** Text that should name an image or a blob and does not. */
export class ImageReferenceError extends DarterError {
  readonly code = 'IMAGE_REFERENCE'

  constructor(text: string) {
    super(
      `${quoted(text)} names no image: expected [UPSTREAM/]REPOSITORY[:TAG|@DIGEST], such as ghcr.io/team/app:v1`,
    )
  }
}

/** An image, or one blob, as a user names it. */
export interface ImageReference {
  /** The repository, with the upstream's name before it where that was said. */
  readonly name: string
  readonly reference: Reference
}

const NAME = /^[a-z0-9][a-z0-9._:-]*(?:\/[a-z0-9][a-z0-9._-]*)*$/

/**
 * Reads `[UPSTREAM/]REPOSITORY[:TAG|@DIGEST]`; the tag is `latest` where none is given.
 * @throws {ImageReferenceError} {@link TagInvalidError} {@link InvalidDigestError}
 */
export function parseImageReference(text: string): ImageReference {
  const at = text.indexOf('@')
  const tagged = at < 0 ? text : text.slice(0, at)
  const colon = tagged.indexOf(':', tagged.lastIndexOf('/') + 1)
  const name = colon < 0 ? tagged : tagged.slice(0, colon)
  const reference = at >= 0 ? text.slice(at + 1) : colon < 0 ? 'latest' : tagged.slice(colon + 1)
  if (!NAME.test(name) || (at >= 0 && !reference.includes(':'))) throw new ImageReferenceError(text)
  return { name, reference: parseReference(reference) }
}
