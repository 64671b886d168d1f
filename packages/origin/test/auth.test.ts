import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  type Credentials,
  OriginCredentialsError,
  OriginStatusError,
  OriginUnreachableError,
} from '@darter/origin'
import { systemClock } from '@darter/runtime'
import { readAll, requestFor } from './conformance.ts'
import { type Handler, serve } from './http-server.ts'
import { contentOf, randomBytes } from './image.ts'
import { openOrigin } from './registry-origin.ts'

const blob = contentOf(randomBytes(1000, 3), 'application/octet-stream')
const request = requestFor()
const PASSWORD: Credentials = { kind: 'password', username: 'puller', password: 'sécret:1' }
const BASIC = `Basic ${Buffer.from('puller:sécret:1').toString('base64')}`

/** A registry that wants a token, and the server that gives them, on two ports. */
async function bearerRegistry(options: { readonly giveToken?: Handler; readonly realm?: string } = {}) {
  const tokens = new Set<string>()
  const giveToken: Handler = (_, response) => {
    const token = `token-${tokens.size + 1}`
    tokens.add(token)
    response.end(JSON.stringify({ token, expires_in: 300 }))
  }
  const tokenServer = await serve(options.giveToken ?? giveToken)
  const registry = await serve((message, response) => {
    const presented = message.headers.authorization?.replace(/^Bearer /, '')
    if (presented !== undefined && tokens.has(presented)) return void response.end(blob.bytes)
    const realm = options.realm ?? `${tokenServer.url}/token?keep=1`
    const challenge = `Bearer realm="${realm}",service="the service",scope="repository:library/app:pull"`
    response.writeHead(401, { 'www-authenticate': challenge }).end('{"errors":[]}')
  })
  return {
    url: registry.url,
    tokens,
    asked: registry.requests,
    tokenRequests: tokenServer.requests,
    [Symbol.asyncDispose]: async () => {
      await registry[Symbol.asyncDispose]()
      await tokenServer[Symbol.asyncDispose]()
    },
  }
}

const refused = (status: number) => (error: unknown) =>
  error instanceof OriginStatusError && error.status === status

test('without credentials a 401 passes out with its challenge', async () => {
  await using registry = await bearerRegistry()
  await using origin = openOrigin(registry.url)
  await assert.rejects(origin.openBlob(blob.digest, request), error => {
    assert.ok(error instanceof OriginStatusError)
    assert.equal(error.status, 401)
    assert.match(String(error.headers['www-authenticate']), /^Bearer realm="http:.*",service="the service"/)
    assert.equal(Buffer.from(error.body).toString(), '{"errors":[]}')
    return true
  })
  assert.equal(registry.tokenRequests.length, 0)
})

test("a caller's own authorization is sent as it is, and its refusal is not mended", async () => {
  await using registry = await bearerRegistry()
  await using origin = openOrigin(registry.url, { credentials: async () => PASSWORD })
  const own = { ...request, authorization: 'Bearer the-caller' }
  await assert.rejects(origin.openBlob(blob.digest, own), refused(401))
  registry.tokens.add('the-caller')
  assert.equal((await readAll((await origin.openBlob(blob.digest, own)).body)).byteLength, 1000)
  assert.equal(registry.tokenRequests.length, 0)
  assert.deepEqual(
    registry.asked.map(({ headers }) => headers.authorization),
    ['Bearer the-caller', 'Bearer the-caller'],
  )
})

test('a Basic challenge is answered, and later requests carry the answer at once', async () => {
  await using server = await serve((message, response) => {
    if (message.headers.authorization === BASIC) return void response.end(blob.bytes)
    response.writeHead(401, { 'www-authenticate': 'Negotiate, Basic realm="r"' }).end()
  })
  let asked = 0
  await using origin = openOrigin(server.url, {
    credentials: async () => {
      asked++
      return PASSWORD
    },
  })
  for (let round = 0; round < 3; round++) {
    await readAll((await origin.openBlob(blob.digest, request)).body)
  }
  assert.deepEqual(
    server.requests.map(({ headers }) => headers.authorization),
    [undefined, BASIC, BASIC, BASIC],
  )
  assert.equal(asked, 1)
})

test('refused Basic credentials are not tried for ever', async () => {
  await using server = await serve((_, response) => {
    response.writeHead(401, { 'www-authenticate': 'Basic realm="r"' }).end()
  })
  await using origin = openOrigin(server.url, { credentials: async () => PASSWORD })
  await assert.rejects(origin.openBlob(blob.digest, request), refused(401))
  await assert.rejects(origin.openBlob(blob.digest, request), refused(401))
  assert.equal(server.requests.length, 3)
})

test('a token is fetched once for many requests, with the credentials', async () => {
  await using registry = await bearerRegistry()
  await using origin = openOrigin(registry.url, { credentials: async () => PASSWORD })
  await Promise.all(
    Array.from({ length: 10 }, async () => readAll((await origin.openBlob(blob.digest, request)).body)),
  )
  await readAll((await origin.openBlob(blob.digest, request)).body)
  assert.equal(registry.tokenRequests.length, 1)
  const [asked] = registry.tokenRequests
  assert.equal(asked?.method, 'GET')
  assert.equal(asked?.headers.authorization, BASIC)
  assert.deepEqual(Object.fromEntries(new URL(asked?.url ?? '', registry.url).searchParams), {
    keep: '1',
    service: 'the service',
    scope: 'repository:library/app:pull',
    account: 'puller',
  })
})

test('a token is fetched again shortly before it runs out', async () => {
  await using registry = await bearerRegistry()
  let now = 1000
  await using origin = openOrigin(registry.url, {
    credentials: async () => PASSWORD,
    clock: { ...systemClock, now: () => now },
  })
  const read = async () => readAll((await origin.openBlob(blob.digest, request)).body)
  await read()
  now += 290_000
  await read()
  assert.equal(registry.tokenRequests.length, 1)
  now += 6000
  await read()
  assert.equal(registry.tokenRequests.length, 2)
})

test('a token that is no longer accepted is replaced', async () => {
  await using registry = await bearerRegistry()
  await using origin = openOrigin(registry.url, { credentials: async () => PASSWORD })
  await readAll((await origin.openBlob(blob.digest, request)).body)
  registry.tokens.delete('token-1')
  registry.tokens.add('placeholder')
  await readAll((await origin.openBlob(blob.digest, request)).body)
  assert.equal(registry.tokenRequests.length, 2)
})

test('anonymous tokens are asked for without credentials', async () => {
  await using registry = await bearerRegistry()
  await using origin = openOrigin(registry.url, { credentials: async () => ({ kind: 'anonymous' }) })
  await readAll((await origin.openBlob(blob.digest, request)).body)
  assert.equal(registry.tokenRequests[0]?.headers.authorization, undefined)
})

test('an identity token is exchanged by POST and stays out of URLs', async () => {
  const bodies: string[] = []
  const tokens: string[] = []
  await using registry = await bearerRegistry({
    giveToken: (message, response) => {
      message.setEncoding('utf8').on('data', (text: string) => bodies.push(text))
      message.on('end', () => {
        tokens.push('oauth')
        response.end('{"access_token":"oauth"}')
      })
    },
  })
  registry.tokens.add('oauth')
  await using origin = openOrigin(registry.url, {
    credentials: async () => ({ kind: 'identityToken', token: 'refresh me' }),
  })
  await readAll((await origin.openBlob(blob.digest, request)).body)
  assert.equal(registry.tokenRequests[0]?.method, 'POST')
  assert.equal(registry.tokenRequests[0]?.url, '/token?keep=1')
  assert.deepEqual(Object.fromEntries(new URLSearchParams(bodies.join(''))), {
    grant_type: 'refresh_token',
    service: 'the service',
    scope: 'repository:library/app:pull',
    client_id: 'darter',
    refresh_token: 'refresh me',
  })
})

test('credentials that do not work leave the 401 as it is, and a warning without them', async t => {
  const cases: {
    readonly name: string
    readonly credentials: () => Promise<Credentials | undefined>
    readonly giveToken?: Handler
    readonly realm?: string
    readonly warns: RegExp | undefined
  }[] = [
    { name: 'none', credentials: async () => undefined, warns: undefined },
    {
      name: 'refused by the token server',
      credentials: async () => PASSWORD,
      giveToken: (_, response) => void response.writeHead(403).end('no'),
      warns: /status 403/,
    },
    {
      name: 'an answer without a token',
      credentials: async () => PASSWORD,
      giveToken: (_, response) => void response.end('{"token":"a\\r\\nb"}'),
      warns: /without a token/,
    },
    {
      name: 'a source that fails',
      credentials: () => Promise.reject(new OriginCredentialsError('the file cannot be read')),
      warns: /cannot be read/,
    },
    {
      name: 'a realm that is no URL',
      credentials: async () => PASSWORD,
      realm: 'token',
      warns: /token server/,
    },
    {
      name: 'a realm too far inside',
      credentials: async () => PASSWORD,
      realm: 'http://169.254.169.254/',
      warns: /further inside/,
    },
    {
      name: 'a realm of another kind',
      credentials: async () => PASSWORD,
      realm: 'file:///x',
      warns: /https/,
    },
  ]
  for (const { name, credentials, warns, ...options } of cases) {
    await t.test(name, async () => {
      await using registry = await bearerRegistry(options)
      const warnings: string[] = []
      const log = {
        warn: (fields: object, text: string) => warnings.push(`${text} ${JSON.stringify(fields)}`),
      }
      await using origin = openOrigin(registry.url, { credentials, log })
      await assert.rejects(origin.openBlob(blob.digest, request), refused(401))
      assert.equal(warnings.length, warns ? 1 : 0)
      if (warns) assert.match(warnings.join(), warns)
      assert.doesNotMatch(warnings.join(), /sécret|c8OpY3JldA/)
    })
  }
})

test('a token server that is away is not taken for a refusal', async t => {
  await t.test('busy', async () => {
    await using registry = await bearerRegistry({
      giveToken: (_, response) => void response.writeHead(503).end(),
    })
    await using origin = openOrigin(registry.url, { credentials: async () => PASSWORD })
    await assert.rejects(origin.openBlob(blob.digest, request), refused(503))
    assert.equal(registry.tokenRequests.length, 3)
  })
  await t.test('not there', async () => {
    const gone = await serve(() => {})
    await gone[Symbol.asyncDispose]()
    await using registry = await bearerRegistry({ realm: `${gone.url}/token` })
    await using origin = openOrigin(registry.url, { credentials: async () => PASSWORD })
    await assert.rejects(origin.openBlob(blob.digest, request), OriginUnreachableError)
  })
})

test("a caller that leaves does not take the others' token with it", async () => {
  const reached = Promise.withResolvers<void>()
  const released = Promise.withResolvers<void>()
  await using registry = await bearerRegistry({
    giveToken: async (_, response) => {
      reached.resolve()
      await released.promise
      response.end('{"token":"shared"}')
    },
  })
  registry.tokens.add('shared')
  await using origin = openOrigin(registry.url, { credentials: async () => PASSWORD })
  const controller = new AbortController()
  const reason = new Error('left')
  const leaving = origin.openBlob(blob.digest, { ...request, signal: controller.signal })
  await reached.promise
  const staying = origin.openBlob(blob.digest, request)
  while (registry.asked.length < 2) await new Promise(setImmediate)
  controller.abort(reason)
  await assert.rejects(leaving, error => error === reason)
  released.resolve()
  const opened = await staying
  assert.equal((await readAll(opened.body)).byteLength, 1000)
})
