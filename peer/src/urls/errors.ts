import { DarterError, type Digest, quoted } from '@darter/oci'
import { shownTarget } from '../shown-target.ts'

/** What should be a URL is none that can be read. */
export class UrlInvalidError extends DarterError {
  readonly code = 'URL_INVALID'

  /**
   * @param url - as it came; scheme and host are shown of it.
   * @param reason - what is wrong with it, as the end of a sentence that starts with the URL.
   */
  constructor(url: string, reason: string) {
    super(`the URL ${quoted(shownTarget(url))} ${reason}`)
  }
}

/** A URL that the configuration does not allow. */
export class UrlNotAllowedError extends DarterError {
  readonly code = 'URL_NOT_ALLOWED'

  /** @param place - scheme and host, without anything that could be secret. */
  constructor(place: string, advice: string) {
    super(
      `${quoted(place)} is not among the hosts that this peer may read URLs from; allow it with ${advice}`,
    )
  }
}

/** The caller wants other bytes than those that the origin says the URL has. */
export class UrlDigestError extends DarterError {
  readonly code = 'URL_DIGEST'

  constructor(place: string, wanted: Digest, told: Digest) {
    super(`the content at ${quoted(place)} has the digest ${told}, says its origin, not ${wanted}`)
  }
}

/** A header that a caller wants passed on to an origin and that cannot be. */
export class HeaderNotForwardedError extends DarterError {
  readonly code = 'HEADER_NOT_FORWARDED'

  constructor(name: string) {
    super(`the header ${quoted(name)} cannot be passed on to the origin of a URL: the peer sets it itself`)
  }
}
