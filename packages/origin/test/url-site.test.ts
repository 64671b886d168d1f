import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import type { ServerResponse } from 'node:http'
import { test } from 'node:test'
import {
  createUrlSite,
  OriginAddressError,
  OriginChangedError,
  OriginRedirectError,
  OriginStatusError,
  type UrlSite,
} from '@darter/origin'
import { readAll } from './conformance.ts'
import { type Handler, serve, serveTls, testAuthority } from './http-server.ts'
import { randomBytes } from './image.ts'

const content = Buffer.from(randomBytes(5000, 9))
const hex = createHash('sha256').update(content).digest('hex')
const secrets = { authorization: 'Bearer the-caller', cookie: 'session=1', 'x-token': 'mine' }

/** The content, with ranges and an entity tag. */
function send(response: ServerResponse, range: string | undefined, etag = '"v1"', head = false): void {
  const [, from = '', to = ''] = /^bytes=(\d+)-(\d*)$/.exec(range ?? '') ?? []
  const part =
    range === undefined ? content : content.subarray(Number(from), to === '' ? undefined : Number(to) + 1)
  response.writeHead(range === undefined ? 200 : 206, {
    etag,
    'content-length': part.length,
    ...(range !== undefined && {
      'content-range': `bytes ${from}-${Number(from) + part.length - 1}/${content.length}`,
    }),
  })
  response.end(head ? undefined : part)
}

const whole: Handler = ({ method, headers }, response) =>
  send(response, headers.range, '"v1"', method === 'HEAD')

function openSite(url: string, ca?: string): UrlSite & AsyncDisposable {
  const site = createUrlSite({
    site: new URL(new URL(url).origin),
    ca,
    loopMarker: 'url-test',
    limits: { attempts: 1 },
  })
  return Object.assign(site, { [Symbol.asyncDispose]: () => site.close() })
}

const ask = (url: string, headers: Record<string, string> = {}) => ({
  url: new URL(url),
  headers,
  via: undefined,
  signal: AbortSignal.timeout(10_000),
})

test('a hub that redirects to a store: its own word counts, and nothing of the caller goes there', async () => {
  const ca = await testAuthority()
  await using cdn = await serveTls(whole)
  await using hub = await serveTls((_, response) => {
    response.writeHead(302, {
      location: `${cdn.url}/object?X-Amz-Signature=abc`,
      'x-linked-etag': `"${hex}"`,
      'x-linked-size': content.length,
      'x-repo-commit': 'c0ffee',
      etag: '"of the redirect"',
    })
    response.end()
  })
  await using site = openSite(hub.url, ca)
  const url = `${hub.url}/org/model/resolve/main/model.bin`
  const described = await site.describe(ask(url, secrets))
  assert.equal(described.digest, `sha256:${hex}`)
  assert(described.isOwnDigest)
  assert.equal(described.size, content.length)
  assert.equal(described.headers['x-repo-commit'], 'c0ffee')
  assert.equal(described.headers['etag'], `"${hex}"`)
  assert.equal(cdn.requests.length, 0)

  const { validator } = described
  const opened = await site.open({ ...ask(url, secrets), from: 100, to: 200, validator })
  assert.deepEqual(await readAll(opened.body), content.subarray(100, 200))
  for (const [name, value] of Object.entries(secrets)) {
    assert.equal(hub.requests[1]?.headers[name], value)
    assert.equal(cdn.requests[0]?.headers[name], undefined)
  }
  assert.equal(cdn.requests[0]?.headers.range, 'bytes=100-199')
})

test('a digest that only the host redirected to tells is not the site’s own word', async () => {
  await using elsewhere = await serve((_, response) => {
    response.writeHead(200, { 'docker-content-digest': `sha256:${hex}`, 'content-length': content.length })
    response.end()
  })
  await using redirector = await serve((_, response) => {
    response.writeHead(302, { location: elsewhere.url, 'content-length': 0 }).end()
  })
  await using site = openSite(redirector.url)
  const described = await site.describe(ask(redirector.url))
  assert.equal(described.digest, `sha256:${hex}`)
  assert(!described.isOwnDigest)
})

test('a redirect from https to http is not followed', async () => {
  await using plain = await serve(whole)
  await using secure = await serveTls((_, response) => {
    response.writeHead(302, { location: plain.url }).end()
  })
  await using site = openSite(secure.url, await testAuthority())
  await assert.rejects(site.open(ask(`${secure.url}/x`)), OriginRedirectError)
  assert.equal(plain.requests.length, 0)
})

test('a URL that is signed for GET alone is described by its first byte', async () => {
  await using server = await serve(({ method, headers }, response) => {
    if (method === 'HEAD') response.writeHead(403).end()
    else send(response, headers.range)
  })
  await using site = openSite(server.url)
  const described = await site.describe(ask(`${server.url}/signed?Signature=1`))
  assert.equal(described.size, content.length)
  assert.equal(described.validator, 'etag "v1"')
  assert.equal(server.requests[1]?.headers.range, 'bytes=0-0')
})

test('a file without any byte that is signed for GET alone is described as empty, and has no first byte', async () => {
  await using server = await serve(({ method, headers }, response) => {
    if (method === 'HEAD') response.writeHead(403).end()
    else if (headers.range === undefined) response.writeHead(200, { 'content-length': 0 }).end()
    else response.writeHead(416, { 'content-range': 'bytes */0', 'content-type': 'text/html' }).end('none')
  })
  await using site = openSite(server.url)
  const described = await site.describe(ask(server.url))
  assert.equal(described.size, 0)
  assert.equal(described.validator, undefined)
  assert.deepEqual(described.headers, {})
  assert.equal((await readAll((await site.open(ask(server.url))).body)).length, 0)
  const first = site.open({ ...ask(server.url), from: 0, to: 1 })
  await assert.rejects(first, error => error instanceof OriginStatusError && error.status === 416)
})

test('another version than the one that was begun with is no continuation', async () => {
  let etag = '"v1"'
  await using server = await serve(({ method, headers }, response) =>
    send(response, headers.range, etag, method === 'HEAD'),
  )
  await using site = openSite(server.url)
  const { validator } = await site.describe(ask(server.url))
  etag = '"v2"'
  await assert.rejects(site.open({ ...ask(server.url), from: 10, validator }), OriginChangedError)
})

test('a refusal is the origin’s own', async () => {
  await using server = await serve((_, response) => {
    response.writeHead(401, { 'www-authenticate': 'Bearer realm="here"' }).end()
  })
  await using site = openSite(server.url)
  await assert.rejects(
    site.describe(ask(server.url)),
    error =>
      error instanceof OriginStatusError && error.headers['www-authenticate'] === 'Bearer realm="here"',
  )
})

test('a host inside the network is not asked where only public ones are allowed, by address or by name', async () => {
  await using server = await serve(whole)
  const { port } = new URL(server.url)
  for (const host of ['127.0.0.1', 'localhost']) {
    const url = `http://${host}:${port}/`
    const site = createUrlSite({ site: new URL(url), loopMarker: 'url-test', addressLimit: 1 })
    await assert.rejects(site.describe(ask(url)), OriginAddressError)
    await site.close()
  }
  assert.equal(server.requests.length, 0)
})

test('a site that is given up lets what is under way end', async () => {
  let finish = () => {}
  await using server = await serve((_, response) => {
    response.writeHead(200, { 'content-length': 2 }).write('a')
    finish = () => response.end('b')
  })
  await using site = openSite(server.url)
  const opened = await site.open(ask(server.url))
  const retired = site.retire()
  finish()
  assert.deepEqual(await readAll(opened.body), Buffer.from('ab'))
  await retired
})
