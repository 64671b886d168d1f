import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { after, describe, it } from 'node:test'
import type { SchedulerLink } from '@darter/exchange'
import { type Digest, parseDigest } from '@darter/oci'
import { createUrlSite, type UrlSite } from '@darter/origin'
import { createLogger, createMetrics, systemClock } from '@darter/runtime'
import { until } from '@darter/testing'
import type { ContentPlace, PeerMessage, SchedulerMessage } from '@darter/wire'
import { createSeedRole } from '../src/seed.ts'
import { createUpstreams } from '../src/upstreams.ts'
import { UrlNotAllowedError } from '../src/urls/errors.ts'
import { createUrls } from '../src/urls/urls.ts'
import { lonelyFacts, memoryReads } from './support/door.ts'

const content = Buffer.alloc(300_000, 'content')
const digest = parseDigest(`sha256:${createHash('sha256').update(content).digest('hex')}`)

/** A seed that is asked by hand, and a server of one file that tells its digest. */
async function startSeed(answer: (request: IncomingMessage, response: ServerResponse) => void) {
  const asked: IncomingMessage[] = []
  const server = createServer((request, response) => {
    asked.push(request)
    answer(request, response)
  })
  const { promise, resolve } = Promise.withResolvers<void>()
  server.listen(0, '127.0.0.1', resolve)
  await promise
  const address = server.address()
  assert(address !== null && typeof address === 'object')
  const origin = `http://127.0.0.1:${address.port}`
  const site: UrlSite = createUrlSite({
    site: new URL(origin),
    ca: undefined,
    addressLimit: undefined,
    loopMarker: 'test',
    limits: { progressTimeoutMs: 5000 },
    throttle: undefined,
    onRequest: () => {},
  })
  const urls = createUrls({
    sites: {
      find: url => {
        if (url.origin !== origin) throw new UrlNotAllowedError(url.origin, 'the option --url-allow')
        return { site, url, place: origin, named: true, hasCredentials: false, takesHeaders: true }
      },
      close: () => site.close(),
    },
    facts: lonelyFacts,
    clock: systemClock,
    ignoredQuery: [],
    accessTtlMs: 60_000,
  })
  const said: PeerMessage[] = []
  let hear: (message: SchedulerMessage) => void = () => {}
  const scheduler: SchedulerLink = {
    connected: true,
    silenceMs: 5_000,
    send: message => said.push(message) > 0,
    onMessage: handler => {
      hear = handler
      return () => {}
    },
    onUp: () => () => {},
    onDown: () => () => {},
  }
  const reads = memoryReads()
  const role = createSeedRole({
    scheduler,
    upstreams: createUpstreams({ upstreams: [] }),
    urls,
    reads,
    clock: systemClock,
    log: createLogger({ level: 'silent', name: 'test' }),
    metrics: createMetrics({ prefix: 'test_' }),
  })
  await role.start()
  return {
    origin,
    asked,
    said,
    held: reads.held,
    ask: (place: ContentPlace, blob: Digest = digest, size = content.length) =>
      hear({ type: 'seed', blob, size, place }),
    stop: async () => {
      await role.stop(new AbortController().signal)
      await urls.close()
      server.closeAllConnections()
      server.close()
    },
  }
}

const serve = (request: IncomingMessage, response: ServerResponse): void => {
  response.writeHead(200, {
    'content-length': content.length,
    etag: '"1"',
    'docker-content-digest': digest,
  })
  response.end(request.method === 'HEAD' ? undefined : content)
}

describe('a seed that is asked for the content of a URL', () => {
  const started: { stop(): Promise<void> }[] = []
  after(() => Promise.all(started.map(seed => seed.stop())))
  const start = async (answer: typeof serve) => {
    const seed = await startSeed(answer)
    started.push(seed)
    return seed
  }
  const refusal = (blob: Digest = digest) => ({ type: 'seed-end', blob, reason: 'refused' })

  it('reads it by itself, and shows nobody’s credentials', async () => {
    const { origin, ask, asked, held, said } = await start(serve)
    ask({ url: `${origin}/models/a.bin`, digest })
    await until('the seed has it', () => held.has(digest))
    assert.deepEqual(held.get(digest), content)
    assert(asked.length > 0 && asked.every(({ headers }) => headers.authorization === undefined))
    assert.deepEqual(said, [])
  })

  it('says at once what it may not read, and does not ask again for the same folder', async () => {
    const { origin, ask, asked, said } = await start((_request, response) => {
      response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end()
    })
    ask({ url: `${origin}/private/a.bin`, digest })
    await until('it is refused', () => said.length === 1)
    const before = asked.length
    ask({ url: `${origin}/private/b.bin`, digest })
    await until('it is refused again', () => said.length === 2)
    ask({ url: 'http://127.0.0.1:1/a.bin', digest })
    await until('another host is refused', () => said.length === 3)
    assert.deepEqual(said, [refusal(), refusal(), refusal()])
    assert.equal(asked.length, before)
    ask({ url: `${origin}/other/b.bin`, digest })
    await until('another folder is tried', () => asked.length > before)
  })

  it('fetches nothing for another version, digest or size than that at its own origin', async () => {
    const { origin, ask, held, said } = await start(serve)
    const other = parseDigest(`sha256:${'b'.repeat(64)}`)
    ask({ url: `${origin}/a`, digest }, other)
    await until('the other name is refused', () => said.length === 1)
    ask({ url: `${origin}/a`, digest: other }, other)
    await until('the other digest is refused', () => said.length === 2)
    ask({ url: `${origin}/a`, digest }, digest, content.length + 1)
    await until('the other size is refused', () => said.length === 3)
    assert.deepEqual(said, [refusal(other), refusal(other), refusal()])
    assert.equal(held.size, 0)
  })
})
