import { type Digest, isDigest } from './digest.ts'
import { ManifestInvalidError, quoted } from './errors.ts'

/** The media types that Darter can read the descriptors of, the preferred ones first: a full `Accept` list. */
export const MANIFEST_MEDIA_TYPES = [
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
  'application/vnd.docker.distribution.manifest.v2+json',
] as const

const OCI_INDEX = MANIFEST_MEDIA_TYPES[0]
const OCI_MANIFEST = MANIFEST_MEDIA_TYPES[1]
const INDEXES: readonly string[] = [OCI_INDEX, MANIFEST_MEDIA_TYPES[2]]
const KNOWN: readonly string[] = MANIFEST_MEDIA_TYPES

/** The largest manifest that is read, in bytes (OCI distribution-spec 1.1, "Pushing Manifests"). */
export const MAX_MANIFEST_BYTES = 4 * 1024 * 1024

/** The most descriptors that one manifest may hold. */
export const MAX_DESCRIPTORS = 16_384

/** What a descriptor is for. */
type DescriptorKind = 'config' | 'layer' | 'manifest'

/** The platform that an index names for a manifest (OCI image-spec, image-index.md). */
export interface Platform {
  readonly os: string
  readonly architecture: string
  readonly variant?: string
}

/** A reference to content, as found in a manifest (OCI image-spec, descriptor.md). */
interface Descriptor {
  readonly digest: Digest
  /** Bytes. */
  readonly size: number
  readonly mediaType: string
}

/** A descriptor that a manifest depends on. */
export interface ManifestDescriptor extends Descriptor {
  readonly kind: DescriptorKind
  readonly platform?: Platform
  readonly artifactType?: string
  readonly annotations?: Readonly<Record<string, string>>
}

/** What a manifest says. */
export interface ManifestDescription {
  readonly mediaType: string
  /** The manifest's own artifact type, else the media type of its config, as the referrers API lists it. */
  readonly artifactType?: string
  /** The manifest that this one is about, for the referrers API. */
  readonly subject?: Descriptor
  readonly annotations?: Readonly<Record<string, string>>
  /** In the manifest's order, config first. Content under a digest that Darter cannot check is left out. */
  readonly descriptors: readonly ManifestDescriptor[]
}

type Json = Readonly<Record<string, unknown>>

/**
 * Reads a manifest or an index: OCI and Docker schema 2. The body's own `mediaType` may be missing: then the given one
 * counts, or else the shape. A manifest of another type is described without descriptors.
 * @param bytes - untrusted; at most {@link MAX_MANIFEST_BYTES}.
 * @param mediaType - the `Content-Type` that it came with; parameters are ignored.
 * @throws {ManifestInvalidError} when the bytes are malformed, too large, or contradict their media type.
 */
export function describeManifest(bytes: Uint8Array, mediaType?: string): ManifestDescription {
  const body = parseBody(bytes)
  const type = settleMediaType(body, mediaType?.split(';', 1)[0]?.trim().toLowerCase())
  if (!KNOWN.includes(type)) return { mediaType: type, descriptors: [] }

  const index = INDEXES.includes(type)
  if (index ? 'layers' in body || 'config' in body : 'manifests' in body) {
    throw new ManifestInvalidError(`has the members of an image and of an index at once`)
  }
  const config = index ? undefined : readDescriptor(body['config'], 'config', 'config')
  const listed = index
    ? readList(body['manifests'], 'manifests', 'manifest')
    : readList(body['layers'], 'layers', 'layer')
  const artifactType = optionalText(body, 'artifactType', 'manifest') ?? config?.mediaType
  const about = body['subject'] ?? undefined
  const subject = about === undefined ? undefined : readDescriptor(about, 'subject', 'manifest')
  const annotations = readAnnotations(body, 'manifest')
  return {
    mediaType: type,
    ...(artifactType !== undefined && { artifactType }),
    ...(subject && { subject: { digest: subject.digest, size: subject.size, mediaType: subject.mediaType } }),
    ...(annotations && { annotations }),
    descriptors: config ? [config, ...listed] : listed,
  }
}

function parseBody(bytes: Uint8Array): Json {
  if (bytes.byteLength > MAX_MANIFEST_BYTES) {
    throw new ManifestInvalidError(`is larger than ${MAX_MANIFEST_BYTES} bytes`)
  }
  let body: unknown
  try {
    body = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch (cause) {
    throw new ManifestInvalidError('is not JSON in UTF-8', { cause })
  }
  if (!isObject(body)) throw new ManifestInvalidError('is not a JSON object')
  return body
}

function settleMediaType(body: Json, given: string | undefined): string {
  const own = optionalText(body, 'mediaType', 'manifest')
  if (own !== undefined && given !== undefined && own !== given && KNOWN.includes(given)) {
    throw new ManifestInvalidError(`came as ${quoted(given)} but calls itself ${quoted(own)}`)
  }
  if (own !== undefined) return own
  if (given !== undefined && KNOWN.includes(given)) return given
  if (Array.isArray(body['manifests'])) return OCI_INDEX
  if ('layers' in body && isObject(body['config'])) return OCI_MANIFEST
  if (given !== undefined) return given
  throw new ManifestInvalidError('has no media type and the members of neither an image nor an index')
}

function readList(value: unknown, where: string, kind: DescriptorKind): ManifestDescriptor[] {
  // What Go writes for an empty list.
  if (value === null) return []
  if (!Array.isArray(value)) throw new ManifestInvalidError(`has no list "${where}"`)
  if (value.length > MAX_DESCRIPTORS) {
    throw new ManifestInvalidError(`lists more than ${MAX_DESCRIPTORS} entries in "${where}"`)
  }
  return value.flatMap((entry: unknown, at) => readDescriptor(entry, `${where}[${at}]`, kind) ?? [])
}

/** Undefined for a well-formed descriptor whose digest algorithm Darter cannot check. */
function readDescriptor(value: unknown, where: string, kind: DescriptorKind): ManifestDescriptor | undefined {
  if (!isObject(value)) throw new ManifestInvalidError(`has no descriptor at "${where}"`)
  const { digest, size, mediaType } = value
  if (typeof mediaType !== 'string') throw new ManifestInvalidError(`has no media type at "${where}"`)
  if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0) {
    throw new ManifestInvalidError(`has no sound size at "${where}"`)
  }
  if (typeof digest !== 'string') throw new ManifestInvalidError(`has no digest at "${where}"`)
  if (!isDigest(digest)) {
    if (OTHER_ALGORITHM.test(digest)) return undefined
    throw new ManifestInvalidError(`has the malformed digest ${quoted(digest)} at "${where}"`)
  }
  const platform = readPlatform(value['platform'])
  const artifactType = optionalText(value, 'artifactType', where)
  const annotations = readAnnotations(value, where)
  return {
    kind,
    digest,
    size,
    mediaType,
    ...(platform && { platform }),
    ...(artifactType !== undefined && { artifactType }),
    ...(annotations && { annotations }),
  }
}

const OTHER_ALGORITHM = /^(?!sha(?:256|512):)[a-z0-9]+(?:[+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]+$/

function readPlatform(value: unknown): Platform | undefined {
  if (!isObject(value)) return undefined
  const { os, architecture, variant } = value
  if (typeof os !== 'string' || typeof architecture !== 'string') return undefined
  return { os, architecture, ...(typeof variant === 'string' && { variant }) }
}

function readAnnotations(holder: Json, where: string): Readonly<Record<string, string>> | undefined {
  const value = holder['annotations']
  if (value === undefined || value === null) return undefined
  if (!isObject(value) || !Object.values(value).every(text => typeof text === 'string')) {
    throw new ManifestInvalidError(`has malformed annotations at "${where}"`)
  }
  return Object.fromEntries(Object.entries(value).map(([key, text]) => [key, String(text)]))
}

function optionalText(holder: Json, member: string, where: string): string | undefined {
  const value = holder[member]
  if (value === undefined || value === '') return undefined
  if (typeof value !== 'string')
    throw new ManifestInvalidError(`has a "${member}" that is not text at "${where}"`)
  return value
}

function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
