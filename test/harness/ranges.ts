import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Image } from './images.ts'
import type { Mirror } from './mirror.ts'

/** The first layer of an image. */
export interface Layer {
  readonly digest: string
  readonly bytes: Buffer
}

/** The first layer of an image that was made here, with its bytes. */
export function firstLayer(image: Image): Layer {
  const [layer] = image.manifests[0]?.layers ?? []
  assert(layer)
  const file = join(image.dir, 'blobs', 'sha256', layer.digest.slice('sha256:'.length))
  return { digest: layer.digest, bytes: readFileSync(file) }
}

/** Where a blob is at a peer's door. */
export function blobUrl(mirror: Mirror, repository: string, digest: string): string {
  return `http://${mirror.address}/v2/${mirror.prefix}${repository}/blobs/${digest}`
}

/** Bytes [from, to) of a blob; `to` may be left out, and a negative `from` counts from the end. */
export interface Wanted {
  readonly from: number
  readonly to?: number
}

/** What such a range is in the blob. */
export function expectedOf(bytes: Buffer, { from, to }: Wanted): Buffer {
  return from < 0 ? bytes.subarray(from) : bytes.subarray(from, to)
}

/** Reads a range as a `Range` header says it. @throws unless the answer is 206. */
export async function fetchRange(url: string, range: string): Promise<Uint8Array> {
  const response = await fetch(url, { headers: { range } })
  const bytes = new Uint8Array(await response.arrayBuffer())
  assert.equal(response.status, 206, range)
  return bytes
}

/** Reads a range and compares every byte; returns how long it took, ms. */
export async function readRange(
  url: string,
  bytes: Buffer,
  wanted: Wanted,
  signal?: AbortSignal,
): Promise<number> {
  const { from, to } = wanted
  const expected = expectedOf(bytes, wanted)
  const range = from < 0 ? `bytes=${from}` : `bytes=${from}-${to === undefined ? '' : to - 1}`
  const begun = performance.now()
  const response = await fetch(url, { headers: { range }, ...(signal !== undefined && { signal }) })
  const got = Buffer.from(await response.arrayBuffer())
  const ms = performance.now() - begun
  assert.equal(response.status, 206, `${range}: ${response.status} ${got.subarray(0, 200).toString()}`)
  const start = from < 0 ? bytes.length + from : from
  const end = Math.min(bytes.length, to ?? bytes.length)
  assert.equal(response.headers.get('content-range'), `bytes ${start}-${end - 1}/${bytes.length}`)
  assert(got.equals(expected), `wrong bytes for ${range}`)
  return ms
}

/** Begins to read a range, and hangs up once `afterBytes` have come. */
export async function abortRange(url: string, wanted: Wanted, afterBytes: number): Promise<void> {
  const controller = new AbortController()
  const { from, to } = wanted
  const range = `bytes=${from}-${to === undefined ? '' : to - 1}`
  const response = await fetch(url, { headers: { range }, signal: controller.signal })
  assert.equal(response.status, 206)
  assert(response.body)
  let received = 0
  try {
    for await (const piece of response.body) {
      received += piece.length
      if (received >= afterBytes) controller.abort()
    }
  } catch (error) {
    if (!controller.signal.aborted) throw error
  }
}
