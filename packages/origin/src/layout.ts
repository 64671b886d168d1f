import {
  type Digest,
  describeManifest,
  formatUnsatisfiedRange,
  type ManifestDescription,
  ManifestInvalidError,
  MAX_MANIFEST_BYTES,
  type OciErrorCode,
  ociErrorBody,
  parseReference,
} from '@darter/oci'
import type { ManifestBody, Origin, OriginRequest } from './contract.ts'
import { type Headers, OriginStatusError } from './errors.ts'
import { createLayoutAnswers } from './layout-answers.ts'
import type { Throttle } from '@darter/runtime'
import { blobPath, createLayoutFiles, type LayoutFile } from './layout-files.ts'
import { createLayoutIndex } from './layout-index.ts'
import { checkSpan } from './span.ts'

/** Where an image layout is. */
export interface LayoutOriginOptions {
  /** The upstream's name in the configuration. */
  readonly name: string
  /** The directory with `oci-layout`, `index.json` and `blobs/`. Read anew when its index changes. */
  readonly directory: string
  /** The longest wait for a piece of a file, as on a network file system that is gone, in ms; 10 s by default. */
  readonly progressTimeoutMs?: number
  /** The limit on the bytes that are read. */
  readonly throttle?: Throttle | undefined
  /** Called with each piece of a file that was read. */
  readonly onBytes?: (count: number) => void
}

/**
 * A directory in the OCI image layout (image-spec, image-layout.md), as a read-only, public {@link Origin}. A tag is
 * an `org.opencontainers.image.ref.name` of its index: `tag`, `repository:tag` or `host/repository:tag`. Where no
 * name tells a repository, every repository that is asked for is the layout itself. The only manifest of an index
 * without names is `latest`. Nothing outside the directory is read, wherever its links may lead.
 */
export function createLayoutOrigin(options: LayoutOriginOptions): Origin {
  const { name, directory, progressTimeoutMs: timeoutMs = 10_000, throttle, onBytes } = options
  const files = createLayoutFiles({ name, directory, timeoutMs, throttle, onBytes })
  const index = createLayoutIndex({ name, directory, files })

  const refusal = (
    status: number,
    code: OciErrorCode,
    message: string,
    headers: Headers = {},
  ): OriginStatusError => {
    const body = new TextEncoder().encode(JSON.stringify(ociErrorBody(code, message)))
    const all = { 'content-type': 'application/json', ...headers }
    return new OriginStatusError(`${name}: a read of ${directory}`, status, all, body)
  }

  const openIndex = async ({ repository, signal }: OriginRequest) => {
    const opened = await index(signal)
    if (!opened.has(repository)) throw refusal(404, 'NAME_UNKNOWN', 'the image layout has no such repository')
    return opened
  }

  const openFile = async (digest: Digest, request: OriginRequest): Promise<LayoutFile> => {
    await openIndex(request)
    const file = await files.open(blobPath(digest), request.signal)
    if (!file) throw refusal(404, 'BLOB_UNKNOWN', 'the image layout has no such blob')
    return file
  }

  const getManifest = async (reference: string, request: OriginRequest): Promise<ManifestBody> => {
    const opened = await openIndex(request)
    const asked = parseReference(reference)
    const entry =
      asked.kind === 'tag' ? opened.tags(request.repository).get(asked.tag) : opened.entry(asked.digest)
    const digest = asked.kind === 'digest' ? asked.digest : entry?.digest
    const bytes = digest && (await files.readBlob(digest, MAX_MANIFEST_BYTES, request.signal))
    if (!digest || !bytes) throw refusal(404, 'MANIFEST_UNKNOWN', 'the image layout has no such manifest')
    return { digest, size: bytes.byteLength, mediaType: describe(bytes, entry?.mediaType).mediaType, bytes }
  }

  const describe = (bytes: Uint8Array, mediaType: string | undefined): ManifestDescription => {
    try {
      return describeManifest(bytes, mediaType)
    } catch (error) {
      if (!(error instanceof ManifestInvalidError)) throw error
      throw refusal(404, 'MANIFEST_UNKNOWN', `the content is not a manifest: ${error.message}`)
    }
  }

  return {
    name,
    description: `image layout in ${directory}`,
    isPublic: true,

    headManifest: async (reference, request) => {
      const { bytes: _, ...described } = await getManifest(reference, request)
      return described
    },

    getManifest,

    headBlob: async (digest, request) => {
      const file = await openFile(digest, request)
      await file.close()
      return { digest, size: file.size, mediaType: 'application/octet-stream' }
    },

    openBlob: async (digest, request) => {
      const { from, to, signal } = request
      const asked = from !== undefined || to !== undefined
      if (asked) checkSpan(from ?? 0, to)
      const file = await openFile(digest, request)
      const { size } = file
      const offset = from ?? 0
      if (asked && offset >= size) {
        await file.close()
        const headers = { 'content-range': formatUnsatisfiedRange(size) }
        throw refusal(416, 'RANGE_INVALID', `the blob has only ${size} bytes`, headers)
      }
      const body = file.watch(offset, Math.min(to ?? size, size), signal)
      return { offset, size, honouredRange: true, body, cancel: body.cancel }
    },

    forward: createLayoutAnswers({ index, files }),

    close: async () => {},
  }
}
