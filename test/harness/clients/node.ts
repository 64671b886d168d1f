import { createHash } from 'node:crypto'
import { Agent, type Dispatcher, request } from 'undici'
import type { Descriptor } from '../images.ts'
import type { Mirror } from '../mirror.ts'

const ACCEPT = [
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.v2+json',
].join(', ')

export interface PullOptions {
  readonly headers?: Readonly<Record<string, string>>
  /** Blobs at the same moment; default 3. */
  readonly concurrency?: number
  readonly signal?: AbortSignal
  /** Told the bytes of each piece of a blob as it arrives; its promise is awaited: a slow client. */
  readonly onBytes?: (count: number) => void | Promise<void>
}

export interface Pulled {
  /** Everything that arrived and matched its digest, with its size in bytes. */
  readonly digests: ReadonlyMap<string, number>
  readonly bytes: number
  readonly seconds: number
  /** `Warning` headers of the answers to the tag. */
  readonly warnings: readonly string[]
}

/** A response that was not what a pull needs. */
export class UnexpectedStatusError extends Error {
  readonly status: number
  readonly body: string
  readonly headers: Dispatcher.ResponseData['headers']

  constructor(url: string, answer: Dispatcher.ResponseData, body: string) {
    super(`${url}: ${answer.statusCode} ${body.slice(0, 300)}`)
    this.status = answer.statusCode
    this.body = body
    this.headers = answer.headers
  }
}

/**
 * Pulls all platforms of an image as an ordinary client does, over connections of its own, and checks each digest and
 * size. Nothing is kept.
 * @throws {UnexpectedStatusError} at the first answer that is not 200; {@link Error} at the first wrong byte.
 */
export async function pullWithNode(
  mirror: Mirror,
  repository: string,
  reference: string,
  options: PullOptions = {},
): Promise<Pulled> {
  const dispatcher = new Agent({
    connections: options.concurrency ?? 3,
    bodyTimeout: 120_000,
    headersTimeout: 120_000,
  })
  const base = `http://${mirror.address}/v2/${mirror.prefix}${repository}`
  const signal = options.signal
  const digests = new Map<string, number>()
  const warnings: string[] = []
  const started = performance.now()

  const get = async (url: string) => {
    const answer = await request(url, {
      dispatcher,
      headers: { accept: ACCEPT, ...options.headers },
      ...(signal === undefined ? {} : { signal }),
    })
    if (answer.statusCode !== 200) throw new UnexpectedStatusError(url, answer, await answer.body.text())
    return answer
  }
  const verify = (expected: string, actual: string, size: number, expectedSize: number | undefined) => {
    if (actual !== expected)
      throw new Error(`wrong bytes: ${expected} arrived as ${actual} (${size} of ${expectedSize} bytes)`)
    if (expectedSize !== undefined && size !== expectedSize)
      throw new Error(`${expected}: ${size} bytes arrived`)
    digests.set(actual, size)
  }
  const manifest = async (name: string, expected?: Descriptor) => {
    const answer = await get(`${base}/manifests/${name}`)
    const bytes = Buffer.from(await answer.body.arrayBuffer())
    const actual = `sha256:${createHash('sha256').update(bytes).digest('hex')}`
    const header = answer.headers['docker-content-digest']
    if (header !== actual) throw new Error(`Docker-Content-Digest ${String(header)} on a manifest ${actual}`)
    if (answer.headers['warning'] !== undefined) warnings.push(String(answer.headers['warning']))
    verify(expected?.digest ?? actual, actual, bytes.length, expected?.size)
    return JSON.parse(bytes.toString('utf8')) as {
      readonly manifests?: readonly Descriptor[]
      readonly config?: Descriptor
      readonly layers?: readonly Descriptor[]
    }
  }
  const blob = async (expected: Descriptor) => {
    const answer = await get(`${base}/blobs/${expected.digest}`)
    const hash = createHash('sha256')
    let size = 0
    for await (const chunk of answer.body as AsyncIterable<Buffer>) {
      hash.update(chunk)
      size += chunk.length
      await options.onBytes?.(chunk.length)
    }
    verify(expected.digest, `sha256:${hash.digest('hex')}`, size, expected.size)
  }

  try {
    const top = await manifest(reference)
    const manifests =
      top.manifests === undefined
        ? [top]
        : await Promise.all(top.manifests.map(child => manifest(child.digest, child)))
    const wanted = new Map<string, Descriptor>()
    for (const { config, layers } of manifests) {
      for (const one of [...(config === undefined ? [] : [config]), ...(layers ?? [])])
        wanted.set(one.digest, one)
    }
    const queue = [...wanted.values()]
    const worker = async () => {
      for (let next = queue.shift(); next !== undefined; next = queue.shift()) await blob(next)
    }
    await Promise.all(Array.from({ length: options.concurrency ?? 3 }, worker))
  } finally {
    await dispatcher.destroy()
  }
  const bytes = digests.values().reduce((sum, size) => sum + size, 0)
  return { digests, bytes, seconds: (performance.now() - started) / 1000, warnings }
}
