import {
  describeManifest,
  type Digest,
  isRepositoryName,
  isTag,
  MANIFEST_MEDIA_TYPES,
  ManifestInvalidError,
  type ManifestDescriptor,
  MAX_MANIFEST_BYTES,
} from '@darter/oci'
import { collect } from './body.ts'
import { OriginUnreachableError } from './errors.ts'
import type { LayoutFiles } from './layout-files.ts'

/** What `index.json` of a layout says. */
export interface LayoutIndex {
  /** Its manifests, in its order. */
  readonly manifests: readonly ManifestDescriptor[]
  /** Whether the layout is (also) this repository. */
  has(repository: string): boolean
  /** The tags of a repository, sorted, each with its manifest. */
  tags(repository: string): ReadonlyMap<string, ManifestDescriptor>
  /** The entry of a manifest, if it is listed itself. */
  entry(digest: Digest): ManifestDescriptor | undefined
}

const REF_NAME = 'org.opencontainers.image.ref.name'
const MAX_MARKER_BYTES = 4096

/**
 * Reads `index.json` when it has changed since the last time. While it is half written, what it last said holds.
 * The function throws {@link OriginUnreachableError} when the directory is no image layout or cannot be read.
 */
export function createLayoutIndex(options: {
  readonly name: string
  readonly directory: string
  readonly files: LayoutFiles
}): (signal: AbortSignal) => Promise<LayoutIndex> {
  const { name, directory, files } = options
  let last: { readonly version: string; readonly index: LayoutIndex } | undefined

  const noLayout = (reason: string, cause?: unknown) =>
    new OriginUnreachableError(`${name}: ${directory} is not an OCI image layout: ${reason}`, { cause })

  const checkMarker = async (signal: AbortSignal): Promise<void> => {
    const file = await files.open('oci-layout', signal)
    if (!file) throw noLayout('it has no file "oci-layout"')
    const bytes = await collect(file.watch(0, file.size, signal), MAX_MARKER_BYTES)
    const text = Buffer.from(bytes ?? []).toString('utf8')
    if (!/"imageLayoutVersion"\s*:\s*"1\./.test(text))
      throw noLayout('its "oci-layout" does not name version 1')
  }

  return async signal => {
    const file = await files.open('index.json', signal)
    if (!file) throw noLayout('it has no file "index.json"')
    if (file.version === last?.version) {
      await file.close()
      return last.index
    }
    const bytes = await collect(file.watch(0, file.size, signal), MAX_MANIFEST_BYTES)
    if (!bytes) throw noLayout(`its "index.json" is larger than ${MAX_MANIFEST_BYTES} bytes`)
    if (!last) await checkMarker(signal)
    try {
      const { descriptors } = describeManifest(bytes, MANIFEST_MEDIA_TYPES[0])
      last = { version: file.version, index: indexOf(descriptors) }
    } catch (error) {
      if (!(error instanceof ManifestInvalidError)) throw error
      if (!last) throw noLayout(`its "index.json" is malformed: ${error.message}`, error)
    }
    return last.index
  }
}

/** The repositories and the tag that a `ref.name` means; none for a name of another form. */
function readRefName(
  text: string,
): { readonly repositories: readonly string[]; readonly tag: string } | undefined {
  if (isTag(text)) return { repositories: [], tag: text }
  const colon = text.lastIndexOf(':')
  const place = text.slice(0, colon)
  const tag = text.slice(colon + 1)
  if (colon < 0 || !isTag(tag)) return undefined
  // A first part that looks like a host is one (as in docker's references), but clients may also ask for all of it.
  const withoutHost = /^(?:[^/]*[.:][^/]*|localhost)\/(.+)$/.exec(place)?.[1]
  const repositories = [place, withoutHost].filter(found => found !== undefined && isRepositoryName(found))
  return repositories.length > 0 ? { repositories: repositories.map(String), tag } : undefined
}

function indexOf(manifests: readonly ManifestDescriptor[]): LayoutIndex {
  const anywhere = new Map<string, ManifestDescriptor>()
  const named = new Map<string, Map<string, ManifestDescriptor>>()
  const entries = new Map<string, ManifestDescriptor>()
  const add = (tags: Map<string, ManifestDescriptor>, tag: string, manifest: ManifestDescriptor) => {
    if (!tags.has(tag)) tags.set(tag, manifest)
  }
  for (const manifest of manifests) {
    if (!entries.has(manifest.digest)) entries.set(manifest.digest, manifest)
    const ref = readRefName(manifest.annotations?.[REF_NAME] ?? '')
    if (ref?.repositories.length === 0) add(anywhere, ref.tag, manifest)
    for (const repository of ref?.repositories ?? []) {
      const tags = named.get(repository) ?? new Map<string, ManifestDescriptor>()
      named.set(repository, tags)
      add(tags, ref?.tag ?? '', manifest)
    }
  }
  const [only, second] = manifests
  if (only && !second && anywhere.size + named.size === 0) anywhere.set('latest', only)

  return {
    manifests,
    has: repository => named.size === 0 || named.has(repository),
    tags: repository => {
      if (named.size > 0 && !named.has(repository)) return new Map()
      const all = new Map([...anywhere, ...(named.get(repository) ?? [])])
      return new Map([...all].toSorted(([a], [b]) => (a < b ? -1 : 1)))
    },
    entry: digest => entries.get(digest),
  }
}
