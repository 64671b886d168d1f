import { DarterError, type ManifestDescriptor } from '@darter/oci'

/** What was named is no platform, or the image is not there for it. */
export class PlatformError extends DarterError {
  readonly code = 'PLATFORM'
}

/** A platform as on the command line: `linux/arm64`, `linux/arm/v7`. */
export interface Platform {
  readonly os: string
  readonly architecture: string
  readonly variant?: string
}

/** Reads a platform. @throws {PlatformError} */
export function parsePlatform(text: string): Platform {
  const [, os, architecture, variant] = /^([a-z0-9]+)\/([a-z0-9_]+)(?:\/([a-z0-9.]+))?$/.exec(text) ?? []
  if (os === undefined || architecture === undefined) {
    throw new PlatformError(`${text} is no platform such as linux/amd64 or linux/arm/v7`)
  }
  return { os, architecture, ...(variant !== undefined && { variant }) }
}

/**
 * The manifest of an index that is for a platform: the first one, as container runtimes choose. A variant counts when the
 * platform names one.
 * @throws {PlatformError} when there is none.
 */
export function chooseManifest(
  listed: readonly ManifestDescriptor[],
  platform: Platform,
): ManifestDescriptor {
  const found = listed.find(
    ({ kind, platform: its }) =>
      kind === 'manifest' &&
      its?.os === platform.os &&
      its.architecture === platform.architecture &&
      (platform.variant === undefined || its.variant === platform.variant),
  )
  if (found !== undefined) return found
  const known = listed.flatMap(({ platform: its }) => (its === undefined ? [] : [formatPlatform(its)]))
  throw new PlatformError(
    `the image has no ${formatPlatform(platform)}; it has ${known.length > 0 ? known.join(', ') : 'no platform'}`,
  )
}

function formatPlatform({ os, architecture, variant }: Platform): string {
  return [os, architecture, ...(variant === undefined ? [] : [variant])].join('/')
}
