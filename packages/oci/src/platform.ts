import { DarterError } from './errors.ts'
import type { ManifestDescriptor, Platform } from './manifest.ts'

/** What was named is no platform, or the image is not there for it. */
export class PlatformError extends DarterError {
  readonly code = 'PLATFORM'
}

/** Layers that registries do not hand out. */
const ELSEWHERE = /foreign|nondistributable/

/** Whether a registry hands out what a manifest of its own refers to: foreign and nondistributable layers are elsewhere. */
export function isHandedOut({ mediaType }: Pick<ManifestDescriptor, 'mediaType'>): boolean {
  return !ELSEWHERE.test(mediaType)
}

/** Reads a platform as on the command line: `linux/arm64`, `linux/arm/v7`. @throws {PlatformError} */
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

/** The text that {@link parsePlatform} reads. */
export function formatPlatform({ os, architecture, variant }: Platform): string {
  return [os, architecture, ...(variant === undefined ? [] : [variant])].join('/')
}
