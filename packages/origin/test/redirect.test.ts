import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MANIFEST_MEDIA_TYPES } from '@darter/oci'
import {
  OriginProtocolError,
  OriginRedirectError,
  OriginStatusError,
  OriginUnreachableError,
} from '@darter/origin'
import { readAll, requestFor } from './conformance.ts'
import { serve, serveTls, testAuthority } from './http-server.ts'
import { contentOf, makeImage, randomBytes } from './image.ts'
import { openOrigin } from './registry-origin.ts'

const blob = contentOf(randomBytes(5000, 4), 'application/octet-stream')
const request = requestFor()

test('a redirect to another port is followed for the range, without credentials', async t => {
  for (const status of [301, 302, 303, 307, 308]) {
    await t.test(String(status), async () => {
      await using cdn = await serve((message, response) => {
        assert.equal(message.headers.range, 'bytes=10-19')
        response.writeHead(206, { 'content-range': 'bytes 10-19/5000' }).end(blob.bytes.subarray(10, 20))
      })
      await using registry = await serve((_, response) => {
        response.writeHead(status, { location: `${cdn.url}/signed?key=1` }).end('<a>Found</a>')
      })
      await using origin = openOrigin(registry.url)
      const authorization = 'Bearer the-caller'
      const opened = await origin.openBlob(blob.digest, { ...request, authorization, from: 10, to: 20 })
      assert.deepEqual(await readAll(opened.body), Buffer.from(blob.bytes.subarray(10, 20)))
      assert.equal(registry.requests[0]?.headers.authorization, authorization)
      assert.equal(cdn.requests[0]?.url, '/signed?key=1')
      assert.equal(cdn.requests[0]?.headers.authorization, undefined)
      assert.equal(cdn.requests[0]?.headers['accept-encoding'], 'identity')
    })
  }
})

test('configured credentials do not follow a redirect either, and its 401 gets none', async () => {
  await using cdn = await serve((_, response) => {
    response.writeHead(401, { 'www-authenticate': 'Basic realm="give them to me"' }).end()
  })
  await using registry = await serve((message, response) => {
    if (message.headers.authorization === undefined) {
      response.writeHead(401, { 'www-authenticate': 'Basic realm="mine"' }).end()
    } else response.writeHead(307, { location: cdn.url }).end()
  })
  await using origin = openOrigin(registry.url, {
    credentials: async () => ({ kind: 'password', username: 'u', password: 'p' }),
  })
  for (let round = 0; round < 2; round++) {
    await assert.rejects(
      origin.openBlob(blob.digest, request),
      error => error instanceof OriginStatusError && error.status === 401,
    )
  }
  assert.equal(cdn.requests.length, 2)
  for (const { headers } of cdn.requests) assert.equal(headers.authorization, undefined)
})

test('credentials stay on the same host, and stay away once dropped', async () => {
  await using cdn = await serve((_, response) => {
    response.writeHead(302, { location: `${registry.url}/back` }).end()
  })
  await using registry = await serve((message, response) => {
    if (message.url === '/back') response.end(blob.bytes)
    else response.writeHead(302, { location: message.url === '/second' ? cdn.url : '/second' }).end()
  })
  await using origin = openOrigin(registry.url)
  await readAll((await origin.openBlob(blob.digest, { ...request, authorization: 'Bearer x' })).body)
  assert.deepEqual(
    registry.requests.map(({ url, headers }) => [url === '/back' ? url : '', headers.authorization]),
    [
      ['', 'Bearer x'],
      ['', 'Bearer x'],
      ['/back', undefined],
    ],
  )
})

test('manifests and heads follow redirects too', async () => {
  const { manifest } = makeImage([1])
  await using other = await serve((_, response) => {
    response.writeHead(200, {
      'content-type': manifest.mediaType,
      'content-length': manifest.bytes.byteLength,
    })
    response.end(manifest.bytes)
  })
  await using registry = await serve((message, response) => {
    response.writeHead(307, { location: `${other.url}${message.url}` }).end()
  })
  await using origin = openOrigin(registry.url)
  const accept = MANIFEST_MEDIA_TYPES
  assert.equal((await origin.getManifest('v1', { ...request, accept })).digest, manifest.digest)
  assert.equal((await origin.headManifest(manifest.digest, { ...request, accept })).digest, manifest.digest)
  assert.equal((await origin.headBlob(blob.digest, request)).size, manifest.bytes.byteLength)
})

test('a redirect without end, without aim or to another kind of place is refused', async t => {
  for (const { location, error, requests } of [
    { location: '/again', error: OriginRedirectError, requests: 6 },
    { location: undefined, error: OriginProtocolError, requests: 1 },
    { location: 'http://', error: OriginProtocolError, requests: 1 },
    { location: 'file:///etc/passwd', error: OriginRedirectError, requests: 1 },
    { location: 'ftp://127.0.0.1/', error: OriginRedirectError, requests: 1 },
  ]) {
    await t.test(String(location), async () => {
      await using registry = await serve((_, response) => {
        if (location !== undefined) response.setHeader('location', location)
        response.writeHead(302).end()
      })
      await using origin = openOrigin(registry.url)
      await assert.rejects(origin.openBlob(blob.digest, request), error)
      assert.equal(registry.requests.length, requests)
    })
  }
})

test('a redirect to a link-local address is refused before anything is sent', async t => {
  for (const host of [
    '169.254.169.254',
    '[fe80::1]',
    '[::ffff:169.254.169.254]',
    '0xa9fea9fe',
    '224.0.0.1',
  ]) {
    await t.test(host, async () => {
      await using registry = await serve((_, response) => {
        response.writeHead(302, { location: `http://${host}/latest/meta-data/` }).end()
      })
      const records: object[] = []
      await using origin = openOrigin(registry.url, { onRequest: record => records.push(record) })
      await assert.rejects(origin.openBlob(blob.digest, request), OriginRedirectError)
      assert.equal(records.length, 1)
    })
  }
})

test('https is verified: by the configured authority, and not without it', async () => {
  await using server = await serveTls((_, response) => void response.end(blob.bytes))
  const ca = await testAuthority()
  for (const url of [server.url, server.url.replace('127.0.0.1', 'localhost')]) {
    await using origin = openOrigin(url, { ca })
    assert.equal((await readAll((await origin.openBlob(blob.digest, request)).body)).byteLength, 5000)
  }
  await using stranger = openOrigin(server.url)
  await assert.rejects(stranger.openBlob(blob.digest, request), error => {
    assert.ok(error instanceof OriginUnreachableError)
    assert.match(error.message, /certificate does not verify/)
    return true
  })
  assert.equal(server.requests.length, 2)
})

test('a redirect from https to http is refused; to https it is followed', async () => {
  await using plain = await serve((_, response) => void response.end(blob.bytes))
  await using secure = await serveTls((_, response) => void response.end(blob.bytes))
  let location = plain.url
  await using registry = await serveTls((_, response) => void response.writeHead(302, { location }).end())
  await using origin = openOrigin(registry.url, { ca: await testAuthority() })
  await assert.rejects(origin.openBlob(blob.digest, request), OriginRedirectError)
  assert.equal(plain.requests.length, 0)
  location = secure.url
  assert.equal((await readAll((await origin.openBlob(blob.digest, request)).body)).byteLength, 5000)
})

test('a token server without TLS is not used for a registry with it', async () => {
  await using tokens = await serve((_, response) => void response.end('{"token":"x"}'))
  await using registry = await serveTls((_, response) => {
    response.writeHead(401, { 'www-authenticate': `Bearer realm="${tokens.url}"` }).end()
  })
  await using origin = openOrigin(registry.url, {
    ca: await testAuthority(),
    credentials: async () => ({ kind: 'password', username: 'u', password: 'p' }),
  })
  await assert.rejects(
    origin.openBlob(blob.digest, request),
    error => error instanceof OriginStatusError && error.status === 401,
  )
  assert.equal(tokens.requests.length, 0)
})

test('an upstream is an http or https URL without credentials', () => {
  for (const url of ['ftp://a', 'a', 'https://u:p@a', 'https://a/?x', 'https://a/#x']) {
    assert.throws(() => openOrigin(url), TypeError, url)
  }
})
