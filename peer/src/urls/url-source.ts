import type { Digest } from '@darter/oci'
import { type DescribedUrl, type Origin, OriginStatusError, type UrlBody } from '@darter/origin'
import type { BlobSource } from '../download/contract.ts'

/** Reads a URL with one caller's rights: bytes from `from` up to and not including `to`. */
export type ReadUrl = (
  from: number | undefined,
  to: number | undefined,
  signal: AbortSignal,
) => Promise<UrlBody>

/** The content of a URL as a download reads it: an origin with one blob in it. */
export function urlSource(options: {
  /** Scheme and host, for messages. */
  readonly place: string
  /** Scheme and host that it is really asked for at. */
  readonly host: string
  /** The URL, where others may be told it. */
  readonly url: string | undefined
  /** What it answers is not everybody's. */
  readonly hasCredentials: boolean
  readonly digest: Digest
  readonly answer: DescribedUrl
  readonly via: string | undefined
  readonly read: ReadUrl
}): BlobSource {
  const { place, host, url, hasCredentials, digest, answer, via, read } = options
  const nothingElse = async (): Promise<never> => {
    throw new OriginStatusError(`${place}: a URL`, 404, {}, new Uint8Array())
  }
  const origin: Origin = {
    name: place,
    description: `content at ${host}`,
    isPublic: false,
    headManifest: nothingElse,
    getManifest: nothingElse,
    headBlob: async () => ({
      digest,
      size: answer.size ?? (await nothingElse()),
      mediaType: 'application/octet-stream',
    }),
    openBlob: async (_name, { from, to, signal }) => await read(from, to, signal),
    forward: nothingElse,
    close: async () => {},
  }
  return {
    upstream: { name: place, hosts: [], origin, isPublic: false, hasCredentials },
    repository: '',
    via,
    content: digest,
    url,
  }
}
