import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { after, describe, test } from 'node:test'
import type { Origin, UrlSiteOptions } from '@darter/origin'
import { createThrottle, systemClock } from '@darter/runtime'
import { boundPort } from '../src/doors/registry-door.ts'
import { createProxyHosts, parseAbsoluteForm, parseAuthority } from '../src/proxy/index.ts'
import { createUpstreams, type Upstream } from '../src/upstreams.ts'

const origin: Pick<Origin, 'name'> = { name: 'never asked' }
const upstream = (name: string, hosts: readonly string[] = []): Upstream => ({
  name,
  hosts,
  origin: origin as Origin,
  hasCredentials: false,
  isPublic: false,
})

describe('authorities', () => {
  for (const [text, expected] of [
    ['ghcr.io', { host: 'ghcr.io', port: 443 }],
    ['GHCR.io:8443', { host: 'ghcr.io', port: 8443 }],
    ['[::1]:22', { host: '[::1]', port: 22 }],
    ['10.0.0.1:1', { host: '10.0.0.1', port: 1 }],
    ['', undefined],
    [':443', undefined],
    ['a:0', undefined],
    ['a:65536', undefined],
    ['a:', undefined],
    ['a b', undefined],
    ['user@host', undefined],
    ['host/path', undefined],
    ['-a', undefined],
    ['[::1', undefined],
    ['a\r\nb', undefined],
  ] as const) {
    test(JSON.stringify(text), () => assert.deepEqual(parseAuthority(text, 443), expected))
  }

  test('without a default the port has to be there', () => {
    assert.equal(parseAuthority('ghcr.io', undefined), undefined)
  })
})

describe('absolute form', () => {
  for (const [url, host, port, target] of [
    ['http://a/v2/', 'a', 80, '/v2/'],
    ['HTTPS://A:1/x?y#z', 'a', 1, '/x?y#z'],
    ['https://a', 'a', 443, '/'],
    ['http://a?q', 'a', 80, '/?q'],
    ['http://a//b/x', 'a', 80, '//b/x'],
  ] as const) {
    test(url, () => assert.deepEqual(parseAbsoluteForm(url), { authority: { host, port }, target }))
  }

  test('other forms are none', () => {
    for (const url of ['/v2/', '*', 'a:443', 'ftp://a/', '//a/v2/'])
      assert.equal(parseAbsoluteForm(url), undefined)
  })

  test('credentials and malformed hosts are refused', () => {
    for (const url of ['http://u:p@a/', 'http:///x', 'http://a:99999/', 'http://a\\b/']) {
      assert.throws(() => parseAbsoluteForm(url), { code: 'TARGET_INVALID' })
    }
    assert.throws(() => parseAbsoluteForm('http://alice:opensesame@plain.test/v2/?token=abc'), {
      message:
        'the request target "http://plain.test" holds a user name or a password: they belong in an Authorization header',
    })
  })
})

describe('the allow list', () => {
  const docker = upstream('docker.io', ['registry-1.docker.io'])
  const corp = upstream('corp.example:5000')
  const here = upstream('here.test')
  const local = upstream('local')
  const hosts = createProxyHosts({
    upstreams: createUpstreams({ upstreams: [docker, corp, here, local] }),
    addresses: [
      { name: 'docker.io', url: new URL('https://registry-1.docker.io'), ca: undefined },
      { name: 'corp.example:5000', url: new URL('https://10.1.2.3:5443/path'), ca: undefined },
      { name: 'here.test', url: new URL('http://127.0.0.1:5000'), ca: undefined },
      { name: 'local', url: undefined, ca: undefined },
    ],
    tunnelHosts: ['https://auth.docker.io', 'https://10.0.0.9:8443', 'http://127.0.0.1:9000'].map(
      text => new URL(text),
    ),
    interceptHosts: ['registry-1.docker.io', 'corp.example:5000'],
    site: { loopMarker: 'test' },
  })
  after(() => hosts.close())
  const find = (text: string) => {
    const authority = parseAuthority(text, undefined)
    assert(authority)
    const host = hosts.find(authority)
    return host && [host.upstream?.name, host.forwarder?.url.origin, host.tunnelPort, host.intercepted]
  }

  for (const [authority, ...expected] of [
    ['docker.io:443', 'docker.io', 'https://registry-1.docker.io', 443, false],
    // What asks for it by http goes on by https; a tunnel leads to the port of https alone.
    ['docker.io:80', 'docker.io', 'https://registry-1.docker.io', 443, false],
    ['registry-1.docker.io:443', 'docker.io', 'https://registry-1.docker.io', 443, true],
    ['corp.example:5000', 'corp.example:5000', 'https://10.1.2.3:5443', 5000, true],
    ['10.1.2.3:5443', 'corp.example:5000', 'https://10.1.2.3:5443', 5443, true],
    // On this machine: as a registry, no further.
    ['here.test:80', 'here.test', undefined, 443, false],
    ['127.0.0.1:5000', 'here.test', undefined, undefined, false],
    ['local:443', 'local', undefined, undefined, false],
    ['auth.docker.io:443', undefined, 'https://auth.docker.io', 443, false],
    ['auth.docker.io:80', undefined, 'https://auth.docker.io', 443, false],
    ['10.0.0.9:8443', undefined, 'https://10.0.0.9:8443', 8443, false],
    ['127.0.0.1:9000', undefined, 'http://127.0.0.1:9000', 9000, false],
  ] as const) {
    test(authority, () => assert.deepEqual(find(authority), expected))
  }

  test('everything else is nothing', () => {
    for (const authority of [
      'docker.io:22',
      'corp.example:443',
      '10.0.0.9:443',
      '127.0.0.1:80',
      '127.0.0.1:22',
      'localhost:9000',
      '[::1]:9000',
      'x.docker.io:443',
      '169.254.169.254:80',
    ]) {
      assert.equal(find(authority), undefined, authority)
    }
  })
})

test('what is passed on is counted, kept to the rate of origins, and cut when it stalls', async t => {
  const server = createServer((request, response) => {
    response.writeHead(200, { 'content-length': 30_000 })
    if (request.url === '/stalls') response.write('a')
    else response.end(Buffer.alloc(30_000))
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const port = boundPort(server)
  let waits = 0
  const statuses: (number | undefined)[] = []
  const site: Pick<UrlSiteOptions, 'loopMarker' | 'limits' | 'throttle' | 'onRequest'> = {
    loopMarker: 'test',
    limits: { progressTimeoutMs: 50 },
    throttle: createThrottle({ bytesPerSecond: 100_000, clock: systemClock, onWait: () => waits++ }),
    onRequest: ({ kind, status }) => kind === 'forward' && statuses.push(status),
  }
  const hosts = createProxyHosts({
    upstreams: createUpstreams({ upstreams: [] }),
    addresses: [],
    tunnelHosts: [new URL(`http://127.0.0.1:${port}`)],
    interceptHosts: [],
    site,
  })
  t.after(async () => {
    await hosts.close()
    server.closeAllConnections()
    server.close()
  })
  const forwarder = hosts.find({ host: '127.0.0.1', port })?.forwarder
  assert(forwarder)
  const read = async (path: string) => {
    const signal = AbortSignal.timeout(10_000)
    const { body } = await forwarder.forward({ method: 'GET', path, headers: {}, signal })
    let bytes = 0
    for await (const piece of body) bytes += piece.byteLength
    return bytes
  }
  assert.equal(await read('/x'), 30_000)
  assert(waits > 0, 'the rate did not count')
  await assert.rejects(read('/stalls'), { code: 'ORIGIN_STALLED' })
  assert.deepEqual(statuses, [200, 200])
})
