import assert from 'node:assert/strict'
import { once } from 'node:events'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { test } from 'node:test'
import { MANIFEST_MEDIA_TYPES, MAX_MANIFEST_BYTES } from '@darter/oci'
import {
  MAX_ERROR_BODY_BYTES,
  OriginInterruptedError,
  OriginProtocolError,
  OriginStalledError,
  OriginStatusError,
  OriginTimeoutError,
  OriginUnreachableError,
} from '@darter/origin'
import { abortable, createThrottle, delay, systemClock, type Throttle } from '@darter/runtime'
import { readAll, requestFor } from './conformance.ts'
import { serve } from './http-server.ts'
import { contentOf, makeImage, randomBytes } from './image.ts'
import { openOrigin } from './registry-origin.ts'

const blob = contentOf(randomBytes(200_000, 7), 'application/octet-stream')
const { manifest } = makeImage([10])
const request = requestFor()
const asking = { ...request, accept: MANIFEST_MEDIA_TYPES }

/** The bytes of the blob that a `Range` header asks for, with the right head. */
function sendRange(message: IncomingMessage, response: ServerResponse, contentRange?: string): void {
  const [, from = '0', last = ''] = /^bytes=(\d+)-(\d*)$/.exec(message.headers.range ?? '') ?? []
  const end = last === '' ? blob.bytes.byteLength : Number(last) + 1
  const range = contentRange ?? `bytes ${from}-${end - 1}/${blob.bytes.byteLength}`
  response.writeHead(206, { 'content-range': range, 'content-length': end - Number(from) })
  response.end(blob.bytes.subarray(Number(from), end))
}

test('a body that stalls is given up, with what came before it', async () => {
  await using server = await serve((_, response) => {
    response.writeHead(200, { 'content-length': blob.bytes.byteLength })
    response.write(blob.bytes.subarray(0, 1000))
  })
  await using origin = openOrigin(server.url, { limits: { progressTimeoutMs: 1000 } })
  const { body } = await origin.openBlob(blob.digest, request)
  let received = 0
  await assert.rejects(async () => {
    for await (const part of body) received += part.byteLength
  }, OriginStalledError)
  assert.equal(received, 1000)
})

test('all bodies together come no faster than the limit, which is no stall', async () => {
  await using server = await serve((_, response) => void response.end(blob.bytes))
  const bytesPerSecond = 100_000
  const throttle = createThrottle({ bytesPerSecond, clock: systemClock })
  let counted = 0
  const options = {
    throttle,
    // Shorter than the wait for a whole piece.
    limits: { progressTimeoutMs: 200 },
    onBytes: (count: number) => {
      counted += count
    },
  }
  await using first = openOrigin(server.url, options)
  await using second = openOrigin(server.url, options)
  const began = performance.now()
  const readers = [first, second].map(async origin => {
    const { body } = await origin.openBlob(blob.digest, request)
    assert.deepEqual(await readAll(body), Buffer.from(blob.bytes))
  })
  await Promise.all(readers)
  const seconds = (performance.now() - began) / 1000
  const size = 2 * blob.bytes.byteLength
  assert.ok(seconds >= size / bytesPerSecond - 0.25, `${seconds} s`)
  assert.equal(counted, size)
})

test('a read that the limit holds back ends at once when it is called off', async () => {
  await using server = await serve((_, response) => void response.end(blob.bytes))
  const waiting = Promise.withResolvers<void>()
  const full: Throttle = {
    holdsBack: true,
    take: (_most, signal) => {
      waiting.resolve()
      return abortable(new Promise<number>(() => {}), signal)
    },
  }
  await using origin = openOrigin(server.url, { throttle: full })
  const controller = new AbortController()
  const { body } = await origin.openBlob(blob.digest, { ...request, signal: controller.signal })
  const reason = new Error('enough')
  const reading = assert.rejects(readAll(body), reason)
  await waiting.promise
  controller.abort(reason)
  await reading
})

test('no more connections are made than are allowed', async () => {
  await using server = await serve((_, response) => void response.end(blob.bytes))
  await using origin = openOrigin(server.url, { limits: { connections: 2 } })
  const bodies = await Promise.all(
    Array.from({ length: 6 }, async () => readAll((await origin.openBlob(blob.digest, request)).body)),
  )
  for (const bytes of bodies) assert.deepEqual(bytes, Buffer.from(blob.bytes))
  // Each is kept open and used again, so that one too many would show as another one.
  assert.equal(server.requests.length, 6)
  assert.equal(new Set(server.requests.map(({ socket }) => socket)).size, 2)
})

test('a reader that pauses is not a stall', async () => {
  await using server = await serve((_, response) => void response.end(blob.bytes))
  await using origin = openOrigin(server.url, { limits: { progressTimeoutMs: 500 } })
  const { body } = await origin.openBlob(blob.digest, request)
  const parts: Uint8Array[] = []
  for await (const part of body) {
    // That nothing fails meanwhile shows in time only: more than twice as long as the origin may take.
    if (parts.length === 0) await delay(1200, request.signal)
    parts.push(part)
  }
  assert.deepEqual(Buffer.concat(parts), Buffer.from(blob.bytes))
})

test('a body is not read ahead of its reader', async () => {
  const total = 256 * 1024 * 1024
  let sent = 0
  await using server = await serve(async (_, response) => {
    response.writeHead(200, { 'content-length': total })
    const piece = Buffer.alloc(64 * 1024)
    for (; sent < total; sent += piece.byteLength) if (!response.write(piece)) await once(response, 'drain')
  })
  await using origin = openOrigin(server.url)
  const { body, cancel } = await origin.openBlob(blob.digest, request)
  const first = await body[Symbol.asyncIterator]().next()
  assert.ok(!first.done)
  // A sender that is held back says nothing of it: it shows in that no more goes for a while.
  for (let seen = -1, same = 0; same < 5; same = sent === seen ? same + 1 : 0) {
    seen = sent
    await delay(20, request.signal)
  }
  assert.ok(sent < 32 * 1024 * 1024, `${sent} bytes were sent to a reader of ${first.value.byteLength}`)
  cancel()
})

test('a body that ends short or breaks off is an error at its end', async t => {
  for (const chunked of [false, true]) {
    await t.test(chunked ? 'chunked' : 'with a length', async () => {
      await using server = await serve((_, response) => {
        if (!chunked) response.setHeader('content-length', blob.bytes.byteLength)
        response.write(blob.bytes.subarray(0, 1000), () => response.destroy())
      })
      await using origin = openOrigin(server.url)
      const { body, size } = await origin.openBlob(blob.digest, request)
      assert.equal(size, chunked ? undefined : blob.bytes.byteLength)
      await assert.rejects(readAll(body), OriginInterruptedError)
    })
  }
})

test('a chunked part that is shorter or longer than its range is an error', async t => {
  for (const length of [99, 101]) {
    await t.test(`${length} of 100 bytes`, async () => {
      await using server = await serve((_, response) => {
        response.writeHead(206, { 'content-range': `bytes 0-99/${blob.bytes.byteLength}` })
        response.flushHeaders()
        response.end(blob.bytes.subarray(0, length))
      })
      await using origin = openOrigin(server.url)
      const { body } = await origin.openBlob(blob.digest, { ...request, from: 0, to: 100 })
      await assert.rejects(readAll(body), length < 100 ? OriginInterruptedError : OriginProtocolError)
    })
  }
})

test('an ignored range is told, and can be let go of', async () => {
  let closed: Promise<unknown> | undefined
  await using server = await serve((message, response) => {
    closed = once(message.socket, 'close')
    response.writeHead(200, { 'content-length': blob.bytes.byteLength })
    response.write(blob.bytes.subarray(0, 10))
  })
  await using origin = openOrigin(server.url)
  const { body, cancel, ...head } = await origin.openBlob(blob.digest, { ...request, from: 100, to: 200 })
  assert.deepEqual(head, { offset: 0, size: blob.bytes.byteLength, honouredRange: false })
  cancel()
  await closed
  await assert.rejects(readAll(body), OriginInterruptedError)
})

test('a part that was not asked for is refused', async t => {
  const size = blob.bytes.byteLength
  for (const contentRange of [
    `bytes 0-99/${size}`,
    `bytes 101-200/${size}`,
    `bytes 100-198/${size}`,
    `bytes 100-200/${size}`,
    'bytes 100-199/150',
    'bytes 100-150/*',
    `bytes */${size}`,
    'items 100-199/1000',
    '',
  ]) {
    await t.test(JSON.stringify(contentRange), async () => {
      await using server = await serve((message, response) => sendRange(message, response, contentRange))
      await using origin = openOrigin(server.url)
      await assert.rejects(
        origin.openBlob(blob.digest, { ...request, from: 100, to: 200 }),
        OriginProtocolError,
      )
      assert.equal(server.requests.length, 1)
    })
  }
  await t.test('206 for the whole', async () => {
    await using server = await serve((message, response) => sendRange(message, response))
    await using origin = openOrigin(server.url)
    await assert.rejects(origin.openBlob(blob.digest, request), OriginProtocolError)
  })
})

test('a part of unknown total is taken when it is what was asked for', async () => {
  await using server = await serve((message, response) => sendRange(message, response, 'bytes 100-199/*'))
  await using origin = openOrigin(server.url)
  const { size, body } = await origin.openBlob(blob.digest, { ...request, from: 100, to: 200 })
  assert.equal(size, undefined)
  assert.deepEqual(await readAll(body), Buffer.from(blob.bytes.subarray(100, 200)))
})

test('a busy origin is tried again after what it asked for', async () => {
  let left = 2
  await using server = await serve((_, response) => {
    if (left-- > 0) response.writeHead(429, { 'retry-after': '3' }).end('slow down')
    else response.end(blob.bytes)
  })
  await using origin = openOrigin(server.url, { limits: { backoffBaseMs: 100, backoffMaxMs: 150 } })
  const { body } = await origin.openBlob(blob.digest, request)
  assert.deepEqual(await readAll(body), Buffer.from(blob.bytes))
  assert.deepEqual(origin.waits, [3050, 3075])
})

test('a Retry-After date counts from now, and a long one is not waited for', async t => {
  const wall = Date.UTC(2030, 0, 1)
  const clock = { ...systemClock, wall: () => wall }
  for (const { seconds, waits } of [
    { seconds: 2, waits: [2000] },
    { seconds: 60, waits: [] },
    { seconds: -5, waits: [0] },
  ]) {
    await t.test(`${seconds} s from now`, async () => {
      await using server = await serve((_, response) => {
        response.writeHead(503, { 'retry-after': new Date(wall + seconds * 1000).toUTCString() }).end('busy')
      })
      await using origin = openOrigin(server.url, { clock, random: () => 0, limits: { attempts: 2 } })
      await assert.rejects(origin.openBlob(blob.digest, request), error => {
        assert.ok(error instanceof OriginStatusError)
        assert.equal(error.status, 503)
        assert.equal(Buffer.from(error.body).toString(), 'busy')
        return true
      })
      assert.deepEqual(origin.waits, waits)
    })
  }
})

test('tries are bounded, and only transient refusals are tried again', async t => {
  for (const { status, tries } of [
    { status: 502, tries: 3 },
    { status: 504, tries: 3 },
    { status: 500, tries: 1 },
    { status: 404, tries: 1 },
    { status: 403, tries: 1 },
  ]) {
    await t.test(String(status), async () => {
      await using server = await serve((_, response) => void response.writeHead(status).end())
      await using origin = openOrigin(server.url)
      await assert.rejects(
        origin.headBlob(blob.digest, request),
        error => error instanceof OriginStatusError && error.status === status,
      )
      assert.equal(server.requests.length, tries)
    })
  }
})

test('a connection that is reset before an answer is tried again', async () => {
  let first = true
  await using server = await serve((message, response) => {
    if (first) message.socket.resetAndDestroy()
    else response.end(blob.bytes)
    first = false
  })
  await using origin = openOrigin(server.url)
  const { body } = await origin.openBlob(blob.digest, request)
  assert.equal((await readAll(body)).byteLength, blob.bytes.byteLength)
})

test('a manifest that breaks off is fetched again', async () => {
  let first = true
  await using server = await serve((_, response) => {
    response.writeHead(200, {
      'content-type': manifest.mediaType,
      'content-length': manifest.bytes.byteLength,
    })
    if (first) response.write(manifest.bytes.subarray(0, 10), () => response.destroy())
    else response.end(manifest.bytes)
    first = false
  })
  await using origin = openOrigin(server.url)
  assert.equal((await origin.getManifest(manifest.digest, asking)).digest, manifest.digest)
})

test('a caller that leaves ends the waiting between tries', async () => {
  await using server = await serve((_, response) => void response.writeHead(503).end())
  const controller = new AbortController()
  const reason = new Error('gone')
  await using origin = openOrigin(server.url, {
    sleep: (ms, signal) => {
      controller.abort(reason)
      return delay(ms, signal)
    },
  })
  const work = origin.headBlob(blob.digest, { ...request, signal: controller.signal })
  await assert.rejects(work, error => error === reason)
})

test('nobody there is an unreachable origin', async () => {
  const server = await serve(() => {})
  await server[Symbol.asyncDispose]()
  await using origin = openOrigin(server.url)
  await assert.rejects(origin.openBlob(blob.digest, request), error => {
    assert.ok(error instanceof OriginUnreachableError)
    assert.match(error.message, /ECONNREFUSED/)
    return true
  })
  assert.deepEqual(origin.waits, [])
})

test('an answer that does not begin is a timeout', async () => {
  await using server = await serve(() => {})
  await using origin = openOrigin(server.url, { limits: { headersTimeoutMs: 300 } })
  await assert.rejects(
    origin.openBlob(blob.digest, request),
    error => error instanceof OriginTimeoutError && error.phase === 'headers',
  )
})

test('waiting for a free connection is bounded', async () => {
  await using server = await serve((_, response) => {
    response.writeHead(200, { 'content-length': 10 })
    response.flushHeaders()
  })
  await using origin = openOrigin(server.url, { limits: { connections: 1, queueTimeoutMs: 200 } })
  const held = await origin.openBlob(blob.digest, request)
  await assert.rejects(
    origin.openBlob(blob.digest, request),
    error => error instanceof OriginTimeoutError && error.phase === 'queue',
  )
  held.cancel()
})

test('a manifest without end is not read', async t => {
  await t.test('announced', async () => {
    await using server = await serve((_, response) => {
      response.writeHead(200, { 'content-length': MAX_MANIFEST_BYTES + 1 })
      response.flushHeaders()
    })
    await using origin = openOrigin(server.url)
    await assert.rejects(origin.getManifest('v1', asking), OriginProtocolError)
  })
  await t.test('not announced', async () => {
    let sent = 0
    await using server = await serve(async (_, response) => {
      const piece = Buffer.alloc(64 * 1024, ' ')
      for (; !response.destroyed; sent += piece.byteLength) {
        if (!response.write(piece)) await once(response, 'drain')
      }
    })
    await using origin = openOrigin(server.url)
    await assert.rejects(origin.getManifest('v1', asking), OriginProtocolError)
    assert.ok(sent < 16 * MAX_MANIFEST_BYTES)
  })
})

test('a manifest that is not what its digest says is refused', async t => {
  const other = makeImage([11]).manifest
  for (const { reference, told } of [
    { reference: manifest.digest, told: undefined },
    { reference: manifest.digest, told: manifest.digest },
    { reference: manifest.digest, told: other.digest },
    { reference: 'v1', told: manifest.digest },
  ]) {
    await t.test(`asked for ${reference.slice(0, 12)}, told ${told?.slice(0, 12)}`, async () => {
      await using server = await serve((_, response) => {
        if (told !== undefined) response.setHeader('docker-content-digest', told)
        response.writeHead(200, { 'content-type': other.mediaType }).end(other.bytes)
      })
      await using origin = openOrigin(server.url)
      await assert.rejects(origin.getManifest(reference, asking), OriginProtocolError)
    })
  }
})

test('what a HEAD does not tell comes from a GET', async t => {
  const described = {
    digest: manifest.digest,
    size: manifest.bytes.byteLength,
    mediaType: manifest.mediaType,
  }
  for (const { reason, head } of [
    { reason: 'no digest', head: { 'content-type': manifest.mediaType, 'content-length': 1 } },
    { reason: 'a malformed digest', head: { 'content-length': 1, 'docker-content-digest': 'sha256:0' } },
    { reason: 'no HEAD at all', head: undefined },
  ]) {
    await t.test(`of a manifest: ${reason}`, async () => {
      await using server = await serve((message, response) => {
        if (message.method === 'GET')
          response.setHeader('content-type', manifest.mediaType).end(manifest.bytes)
        else response.writeHead(head ? 200 : 405, head).end()
      })
      await using origin = openOrigin(server.url)
      assert.deepEqual(await origin.headManifest('v1', asking), described)
    })
  }
  for (const status of [200, 405]) {
    await t.test(`of a blob: status ${status} without a length`, async () => {
      await using server = await serve((message, response) => {
        if (message.method === 'GET') return sendRange(message, response)
        response.writeHead(status)
        response.end()
      })
      await using origin = openOrigin(server.url)
      assert.equal((await origin.headBlob(blob.digest, request)).size, blob.bytes.byteLength)
      assert.deepEqual(
        server.requests.map(({ method, headers }) => [method, headers.range]),
        [
          ['HEAD', undefined],
          ['GET', 'bytes=0-0'],
        ],
      )
    })
  }
})

test('a manifest without a Content-Type has the type of its body', async () => {
  await using server = await serve((_, response) => void response.end(manifest.bytes))
  await using origin = openOrigin(server.url)
  const got = await origin.getManifest('v1', asking)
  assert.equal(got.mediaType, manifest.mediaType)
  assert.equal(got.digest, manifest.digest)
})

test('content in an encoding that was not asked for is refused', async () => {
  await using server = await serve((_, response) => {
    response.setHeader('content-encoding', 'gzip').end(blob.bytes)
  })
  await using origin = openOrigin(server.url)
  await assert.rejects(origin.openBlob(blob.digest, request), OriginProtocolError)
  assert.equal(server.requests[0]?.headers['accept-encoding'], 'identity')
})

test('a refusal passes out with its headers and the start of its body', async () => {
  await using server = await serve((_, response) => {
    response.writeHead(403, { 'x-reason': 'policy', 'content-type': 'text/plain', connection: 'close' })
    response.end(Buffer.alloc(MAX_ERROR_BODY_BYTES * 3, 'x'))
  })
  await using origin = openOrigin(server.url)
  await assert.rejects(origin.openBlob(blob.digest, request), error => {
    assert.ok(error instanceof OriginStatusError)
    assert.equal(error.headers['x-reason'], 'policy')
    assert.equal(error.headers['connection'], undefined)
    assert.equal(error.headers['content-length'], undefined)
    assert.equal(error.body.byteLength, MAX_ERROR_BODY_BYTES)
    assert.match(error.message, /upstream: GET .*\/v2\/library\/app\/blobs\/sha256:.* status 403/)
    return true
  })
})

test('every request and every byte is counted, and carries the loop marker', async () => {
  let first = true
  await using server = await serve((_, response) => {
    if (first) response.writeHead(503).end()
    else response.end(blob.bytes)
    first = false
  })
  const records: object[] = []
  let bytes = 0
  await using origin = openOrigin(server.url, {
    onRequest: record => records.push(record),
    onBytes: count => {
      bytes += count
    },
  })
  const { body } = await origin.openBlob(blob.digest, { ...request, via: '1.1 darter-other' })
  await readAll(body)
  assert.deepEqual(records, [
    { method: 'GET', kind: 'blob', status: 503 },
    { method: 'GET', kind: 'blob', status: 200 },
  ])
  assert.equal(bytes, blob.bytes.byteLength)
  assert.deepEqual(
    server.requests.map(({ headers }) => headers['via']),
    Array.from({ length: 2 }, () => '1.1 darter-other, 1.1 darter-test'),
  )
})

test('closing ends what runs', async () => {
  await using server = await serve((_, response) => {
    response.writeHead(200, { 'content-length': 10 })
    response.flushHeaders()
  })
  const origin = openOrigin(server.url, { limits: { progressTimeoutMs: 60_000 } })
  const { body } = await origin.openBlob(blob.digest, request)
  const reading = assert.rejects(readAll(body), OriginInterruptedError)
  await origin.close()
  await reading
})
