import { createHash } from 'node:crypto'
import { describeManifest, MANIFEST_MEDIA_TYPES } from '@darter/oci'
import { Agent, request } from 'undici'

/** How a pull went. */
export interface PullResult {
  readonly seconds: number
  readonly bytes: number
  /** Every digest was right. */
  readonly digestsOk: boolean
}

const LAYERS_AT_ONCE = 3

/** Pulls an image as a container client would, and checks every digest. `onBytes` is told of each piece. */
export async function pullImage(options: {
  readonly door: string
  readonly image: string
  readonly tag: string
  readonly onBytes: (bytes: number) => void
}): Promise<PullResult> {
  const { door, image, tag, onBytes } = options
  const agent = new Agent({ connections: LAYERS_AT_ONCE, headersTimeout: 60_000, bodyTimeout: 60_000 })
  const started = performance.now()
  let bytes = 0
  let digestsOk = true
  try {
    const fetchAll = async (
      path: string,
      onPiece: (piece: Uint8Array) => void,
      accept: string,
    ): Promise<string> => {
      const response = await request(`${door}/v2/${image}/${path}`, {
        dispatcher: agent,
        headers: { accept },
      })
      if (response.statusCode !== 200) throw new Error(`${path} was answered with ${response.statusCode}`)
      const hash = createHash('sha256')
      for await (const piece of response.body as AsyncIterable<Uint8Array>) {
        hash.update(piece)
        bytes += piece.length
        onBytes(piece.length)
        onPiece(piece)
      }
      return `sha256:${hash.digest('hex')}`
    }
    const head = await request(`${door}/v2/${image}/manifests/${tag}`, {
      dispatcher: agent,
      method: 'HEAD',
      headers: { accept: MANIFEST_MEDIA_TYPES.join(', ') },
    })
    await head.body.dump()
    const digest = String(head.headers['docker-content-digest'])
    const parts: Uint8Array[] = []
    const hash = await fetchAll(
      `manifests/${digest}`,
      piece => parts.push(Uint8Array.from(piece)),
      MANIFEST_MEDIA_TYPES.join(', '),
    )
    digestsOk &&= hash === digest
    const wanted = describeManifest(Buffer.concat(parts)).descriptors.toReversed()
    const worker = async (): Promise<void> => {
      for (let next = wanted.pop(); next !== undefined; next = wanted.pop()) {
        const got = await fetchAll(`blobs/${next.digest}`, () => {}, '*/*')
        digestsOk &&= got === next.digest
      }
    }
    await Promise.all(Array.from({ length: LAYERS_AT_ONCE }, worker))
    return { seconds: (performance.now() - started) / 1000, bytes, digestsOk }
  } finally {
    await agent.close()
  }
}
