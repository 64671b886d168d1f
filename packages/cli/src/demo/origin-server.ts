import type { AddressInfo } from 'node:net'
import { Readable } from 'node:stream'
import { formatContentRange, isDigest, MANIFEST_MEDIA_TYPES, parseRange } from '@darter/oci'
import { createLayoutOrigin, OriginStatusError } from '@darter/origin'
import fastify from 'fastify'

/** A registry that serves one image layout and counts what it is asked for. */
export interface OriginServer {
  /** `http://127.0.0.1:PORT`. */
  readonly url: string
  /** Body bytes sent so far. */
  bytes(): number
  /** Requests so far, of any kind. */
  requests(): number
  close(): Promise<void>
}

/** Serves the pull side of the OCI distribution spec from a layout, on loopback. */
export async function startOriginServer(directory: string): Promise<OriginServer> {
  const origin = createLayoutOrigin({ name: 'demo', directory })
  let sent = 0
  let requests = 0
  const app = fastify({ logger: false, forceCloseConnections: true })
  const gone = new AbortController()
  const counted = async function* (body: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    for await (const piece of body) {
      sent += piece.length
      yield piece
    }
  }
  app.addHook('onRequest', async () => {
    requests++
  })
  app.setErrorHandler((error, _request, reply) => {
    if (error instanceof OriginStatusError) return reply.code(error.status).send(error.body)
    return reply.code(500).send()
  })
  app.get('/v2/', async () => ({}))
  app.get<{ Params: { name: string; reference: string } }>(
    '/v2/:name/manifests/:reference',
    async ({ params }, reply) => {
      const request = { repository: params.name, accept: MANIFEST_MEDIA_TYPES, signal: gone.signal }
      const { bytes, digest, mediaType } = await origin.getManifest(params.reference, request)
      if (reply.request.method === 'GET') sent += bytes.length
      return reply.type(mediaType).header('docker-content-digest', digest).send(Buffer.from(bytes))
    },
  )
  app.get<{ Params: { name: string; digest: string } }>('/v2/:name/blobs/:digest', async (request, reply) => {
    const { digest } = request.params
    if (!isDigest(digest)) return reply.code(404).send()
    const asked = { repository: request.params.name, signal: gone.signal }
    const { size } = await origin.headBlob(digest, asked)
    reply.type('application/octet-stream').header('docker-content-digest', digest)
    if (request.method === 'HEAD') return reply.header('content-length', size).send()
    const range = parseRange(request.headers.range, size)
    if (range.kind === 'unsatisfiable') return reply.code(416).send()
    const span = range.kind === 'range' ? { from: range.from, to: range.to } : { from: 0, to: size }
    const { body } = await origin.openBlob(digest, { ...asked, ...span })
    reply.header('content-length', span.to - span.from)
    if (range.kind === 'range')
      reply.code(206).header('content-range', formatContentRange(span.from, span.to, size))
    return reply.send(Readable.from(counted(body), { objectMode: false, highWaterMark: 1024 * 1024 }))
  })
  await app.listen({ host: '127.0.0.1', port: 0, listenTextResolver: () => '' })
  const { port } = app.server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${port}`,
    bytes: () => sent,
    requests: () => requests,
    close: async () => {
      await app.close()
      gone.abort()
      await origin.close()
    },
  }
}
