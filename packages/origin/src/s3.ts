import { AwsV4Signer } from 'aws4fetch'
import type { S3CredentialSource } from './s3-credentials.ts'
import type { HopRequest } from './transport.ts'
import { createUrlSite, type UrlSite, type UrlSiteOptions } from './url.ts'

/** How a bucket is reached. */
export interface S3SiteOptions extends Omit<UrlSiteOptions, 'site' | 'prepare'> {
  /** `https://host[:port]`. */
  readonly endpoint: URL
  readonly bucket: string
  /** The bucket is the first part of the path; else it is put before the endpoint's host name. */
  readonly pathStyle: boolean
  readonly region: string
  /** Signs every request; requests are not signed where it finds none. */
  readonly credentials: S3CredentialSource
}

/** A bucket of an S3-compatible object store, and where its objects are. */
export interface S3Site {
  /** To be asked for {@link urlOf} alone, without headers of callers. */
  readonly site: UrlSite
  /** The URL of an object. @param key - as it is, not percent-encoded. */
  urlOf(key: string, versionId: string | undefined): URL
}

/** Objects of one bucket, read with signed requests (AWS Signature Version 4). */
export function createS3Site(options: S3SiteOptions): S3Site {
  const { endpoint, bucket, pathStyle, region, credentials, ...rest } = options
  const base = new URL(endpoint.origin)
  if (!pathStyle) base.hostname = `${bucket}.${base.hostname}`

  const sign = async (hop: HopRequest): Promise<HopRequest> => {
    // A whole object's sha256, where one was kept when it was uploaded.
    const asked = hop.method === 'HEAD' ? { 'x-amz-checksum-mode': 'ENABLED' } : {}
    const found = await credentials()
    if (found === undefined) return { ...hop, headers: { ...hop.headers, ...asked } }
    const { accessKeyId, secretAccessKey, sessionToken } = found
    const signer = new AwsV4Signer({
      method: hop.method,
      url: hop.url.href,
      headers: asked,
      accessKeyId,
      secretAccessKey,
      ...(sessionToken !== undefined && { sessionToken }),
      service: 's3',
      region,
    })
    const { headers } = await signer.sign()
    const signed = Object.fromEntries([...headers].filter(([name]) => name !== 'host'))
    return { ...hop, headers: { ...hop.headers, ...signed } }
  }

  return {
    site: createUrlSite({ ...rest, site: base, prepare: sign }),
    urlOf: (key, versionId) => {
      const url = new URL(base)
      url.pathname = `${pathStyle ? `/${bucket}` : ''}/${key.split('/').map(encoded).join('/')}`
      if (versionId !== undefined) url.searchParams.set('versionId', versionId)
      return url
    },
  }
}

/** As the signature wants a part of a path: RFC 3986 unreserved characters alone are left as they are. */
function encoded(part: string): string {
  return encodeURIComponent(part).replace(
    /[!'()*]/g,
    character => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  )
}
