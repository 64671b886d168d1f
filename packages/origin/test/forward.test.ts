import assert from 'node:assert/strict'
import type { ServerResponse } from 'node:http'
import { test } from 'node:test'
import { type ForwardRequest, OriginTimeoutError } from '@darter/origin'
import { readAll, requestFor } from './conformance.ts'
import { serve } from './http-server.ts'
import { openOrigin } from './registry-origin.ts'

const { signal } = requestFor()
const ask = (change: Partial<ForwardRequest>): ForwardRequest => ({
  method: 'GET',
  path: '',
  headers: {},
  signal,
  ...change,
})

test('a request passes on as it is but for what concerns one connection only', async () => {
  await using server = await serve((_, response) => {
    response
      .writeHead(207, { 'x-answer': ['a', 'b'], connection: 'x-hop', 'x-hop': 'secret' })
      .end('the answer')
  })
  await using origin = openOrigin(server.url)
  const answer = await origin.forward(
    ask({
      method: 'POST',
      path: 'a/b/blobs/uploads/?mount=x&from=a%2Fc',
      headers: {
        'x-kept': '1',
        authorization: 'Basic eDp5',
        te: 'trailers',
        connection: 'x-mine',
        'x-mine': '1',
        expect: '100-continue',
        host: 'elsewhere.test',
        'transfer-encoding': 'chunked',
        via: '1.1 before',
        'accept-encoding': 'zstd',
      },
    }),
  )
  assert.equal(answer.status, 207)
  assert.equal((await readAll(answer.body)).toString(), 'the answer')
  assert.deepEqual(answer.headers['x-answer'], ['a', 'b'])
  assert.equal(answer.headers['x-hop'], undefined)
  const [asked] = server.requests
  assert.equal(asked?.method, 'POST')
  assert.equal(asked?.url, '/v2/a/b/blobs/uploads/?mount=x&from=a%2Fc')
  const { host, connection: _, ...headers } = asked?.headers ?? {}
  assert.equal(host, new URL(server.url).host)
  assert.deepEqual(headers, {
    'x-kept': '1',
    authorization: 'Basic eDp5',
    via: '1.1 before, 1.1 darter-test',
    'accept-encoding': 'zstd',
    'content-length': '0',
  })
})

test('bodies stream both ways without being collected', async () => {
  await using server = await serve((message, response) => void message.pipe(response))
  await using origin = openOrigin(server.url)
  const gates = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  async function* body() {
    yield Buffer.from('first')
    await gates[0]?.promise
    yield Buffer.from('second')
    await gates[1]?.promise
  }
  const answer = await origin.forward(ask({ method: 'PATCH', path: 'a/blobs/uploads/1', body: body() }))
  const echoed = answer.body[Symbol.asyncIterator]()
  assert.equal(String((await echoed.next()).value), 'first')
  gates[0]?.resolve()
  assert.equal(String((await echoed.next()).value), 'second')
  gates[1]?.resolve()
  assert.equal((await echoed.next()).done, true)
})

test('an upload that its caller breaks off fails and reaches the upstream as broken', async () => {
  const broken = Promise.withResolvers<boolean>()
  await using server = await serve(message => {
    message.on('error', () => {})
    message.resume().on('close', () => broken.resolve(!message.complete))
  })
  await using origin = openOrigin(server.url)
  async function* body() {
    yield Buffer.from('first')
    throw new Error('the client hung up')
  }
  await assert.rejects(origin.forward(ask({ method: 'PATCH', path: 'a/blobs/uploads/1', body: body() })))
  assert.equal(await broken.promise, true)
})

test('a place at the upstream becomes a path below /v2/, any other stays', async t => {
  for (const prefix of ['', '/registry']) {
    for (const { location, expected } of [
      { location: '/v2/a/blobs/uploads/1?_state=x%3D', expected: '/v2/a/blobs/uploads/1?_state=x%3D' },
      { location: 'ORIGIN/v2/a/blobs/uploads/1?b=c&d', expected: '/v2/a/blobs/uploads/1?b=c&d' },
      { location: 'HTTPS/v2/a/blobs/uploads/1', expected: '/v2/a/blobs/uploads/1' },
      { location: 'https://cdn.test/v2/a', expected: 'https://cdn.test/v2/a' },
      { location: 'ORIGIN/other/a', expected: 'ORIGIN/other/a' },
      { location: 'http://', expected: 'http://' },
    ]) {
      await t.test(`${prefix} ${location}`, async () => {
        const fill = (text: string) =>
          text
            .replace('ORIGIN', server.url + prefix)
            .replace('HTTPS', server.url.replace('http:', 'https:') + prefix)
            .replace(/^\/v2/, `${prefix}/v2`)
        await using server = await serve((_, response) => {
          response.writeHead(202, { location: fill(location), link: `<${fill(location)}>; rel="next"` }).end()
        })
        await using origin = openOrigin(server.url + prefix)
        const answer = await origin.forward(ask({ method: 'POST', path: 'a/blobs/uploads/' }))
        await readAll(answer.body)
        const wanted = expected.replace('ORIGIN', server.url + prefix)
        assert.equal(answer.headers['location'], wanted)
        assert.equal(answer.headers['link'], `<${wanted}>; rel="next"`)
        assert.equal(server.requests[0]?.url, `${prefix}/v2/a/blobs/uploads/`)
      })
    }
  }
})

test('redirects, refusals and busy answers pass out', async () => {
  for (const status of [307, 401, 404, 429, 503]) {
    await using server = await serve((_, response) => {
      response
        .writeHead(status, { location: 'http://127.0.0.2:1/', 'www-authenticate': 'Basic realm="r"' })
        .end('x')
    })
    await using origin = openOrigin(server.url)
    const answer = await origin.forward(ask({ path: 'a/tags/list' }))
    assert.equal(answer.status, status)
    assert.equal(answer.headers['location'], 'http://127.0.0.1:1/'.replace('0.1', '0.2'))
    assert.equal(answer.headers['www-authenticate'], 'Basic realm="r"')
    assert.equal((await readAll(answer.body)).toString(), 'x')
    assert.equal(server.requests.length, 1)
  }
})

test('configured credentials go with a streamed body, by a token asked for beforehand', async () => {
  await using tokens = await serve((message, response) => {
    const scopes = new URL(message.url ?? '', 'http://x').searchParams.getAll('scope')
    response.end(JSON.stringify({ token: Buffer.from(scopes.join(' ')).toString('base64url') }))
  })
  await using server = await serve((message, response) => {
    if (message.headers.authorization === undefined) {
      const challenge = `Bearer realm="${tokens.url}",service="s"`
      return void response.writeHead(401, { 'www-authenticate': challenge }).end()
    }
    message.pipe(response)
  })
  await using origin = openOrigin(server.url, {
    credentials: async () => ({ kind: 'password', username: 'u', password: 'p' }),
  })
  const scopes: string[] = []
  for (const change of [
    { method: 'PUT', path: 'a/b/manifests/v1' },
    { method: 'PATCH', path: 'a/b/blobs/uploads/1?from=c/d' },
    { method: 'DELETE', path: 'a/b/manifests/v1' },
  ]) {
    async function* body() {
      yield Buffer.from('content')
    }
    const answer = await origin.forward(ask({ ...change, body: body() }))
    assert.equal(answer.status, 200)
    assert.equal((await readAll(answer.body)).toString(), 'content')
    const token = server.requests.at(-1)?.headers.authorization?.replace('Bearer ', '') ?? ''
    scopes.push(Buffer.from(token, 'base64url').toString())
  }
  assert.deepEqual(scopes, [
    'repository:a/b:pull,push',
    'repository:a/b:pull,push repository:c/d:pull',
    'repository:a/b:pull,push,delete',
  ])
  assert.equal(server.requests.filter(({ url }) => url === '/v2/').length, 2)
})

test('configured credentials go with a request that has no body after its challenge', async () => {
  await using server = await serve((message, response) => {
    if (message.headers.authorization !== undefined) return void response.end('{}')
    response.writeHead(401, { 'www-authenticate': 'Basic realm="r"' }).end()
  })
  await using origin = openOrigin(server.url, {
    credentials: async () => ({ kind: 'password', username: 'u', password: 'p' }),
  })
  for (const path of ['_catalog', 'a/tags/list', '']) {
    const answer = await origin.forward(ask({ path }))
    await readAll(answer.body)
    assert.equal(answer.status, 200)
  }
  assert.equal(server.requests.length, 4)
})

test('configured credentials stay here where the request may not be vouched for', async () => {
  await using server = await serve((message, response) => {
    response.writeHead(message.headers.authorization === undefined ? 401 : 200).end()
  })
  await using origin = openOrigin(server.url, {
    credentials: async () => ({ kind: 'password', username: 'u', password: 'p' }),
  })
  const answer = await origin.forward(ask({ method: 'DELETE', path: 'a/manifests/t', vouch: false }))
  await readAll(answer.body)
  assert.equal(answer.status, 401)
  assert.equal(server.requests.length, 1)
})

test('paths that lead out of /v2/ reach nobody', async () => {
  await using server = await serve((_, response) => void response.end())
  await using origin = openOrigin(server.url)
  for (const path of [
    '../x',
    'a/../../x',
    'a/%2E%2e/x',
    'a%2f..%2f..%2fx',
    'a\\..\\x',
    './x',
    'a/%',
    '\t../x',
    '.\n./x',
    'a b',
    'é',
  ]) {
    const answer = await origin.forward(ask({ path }))
    assert.equal(answer.status, 400, path)
    await readAll(answer.body)
  }
  for (const path of ['http://evil.test/x', '//evil.test/x', '/evil', '@evil.test/']) {
    const answer = await origin.forward(ask({ path }))
    await readAll(answer.body)
  }
  for (const { url } of server.requests) assert.ok(url?.startsWith('/v2/'), url)
})

test('an answer that has a length but no body by its nature is whole', async () => {
  await using server = await serve((_, response) => {
    response.writeHead(304, { 'content-length': 10, etag: '"x"' }).end()
  })
  await using origin = openOrigin(server.url)
  for (const method of ['GET', 'HEAD']) {
    const answer = await origin.forward(ask({ method, path: 'a/manifests/v1' }))
    assert.equal(answer.headers['content-length'], '10')
    assert.equal((await readAll(answer.body)).byteLength, 0)
  }
})

test('a read that is not answered is given up soon, a write has time', async () => {
  const put = Promise.withResolvers<ServerResponse>()
  await using server = await serve((message, response) => {
    if (message.method === 'PUT') put.resolve(response)
  })
  await using origin = openOrigin(server.url, { limits: { headersTimeoutMs: 300, queueTimeoutMs: 400 } })
  const writing = origin.forward(ask({ method: 'PUT', path: 'a/manifests/v1' }))
  const unanswered = await put.promise
  // Sent later, and given up earlier.
  await assert.rejects(origin.forward(ask({ path: 'a/tags/list' })), OriginTimeoutError)
  unanswered.writeHead(201).end()
  assert.equal((await writing).status, 201)
})
