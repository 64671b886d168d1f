import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { connect, createServer, isIP, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { connect as connectTls, createServer as createTlsServer } from 'node:tls'
import { createOutwardLookup } from '@darter/origin'
import { createLogger, createMetrics, systemClock } from '@darter/runtime'
import { until } from '@darter/testing'
import { createProxyMetrics, loadOrCreateAuthority } from '../src/proxy/index.ts'
import { createTunnels } from '../src/proxy/tunnels.ts'

const dir = mkdtempSync(join(tmpdir(), 'darter-proxy-'))
after(() => rmSync(dir, { recursive: true }))

describe('the proxy’s certificate authority', () => {
  const file = join(dir, 'state', 'ca.pem')

  test('is made once, for its owner alone, and kept', async () => {
    const [one, two] = await Promise.all([
      loadOrCreateAuthority(file, systemClock),
      loadOrCreateAuthority(file, systemClock),
    ])
    assert.equal(one.certificate, two.certificate)
    assert.equal(statSync(file).mode & 0o777, 0o600)
    assert.equal(statSync(join(dir, 'state')).mode & 0o777, 0o700)
    const certificate = new X509Certificate(one.certificate)
    assert(certificate.ca)
    assert(!one.certificate.includes('PRIVATE'))
    assert(certificate.verify(certificate.publicKey))
    assert(certificate.validToDate.getTime() > Date.now() + 9 * 365 * 86_400_000)
  })

  for (const [host, name] of [
    ['registry.test', 'DNS:registry.test'],
    ['127.0.0.1', 'IP Address:127.0.0.1'],
  ] as const) {
    test(`a leaf for ${host} is verified by TLS for that host, and for no other`, async () => {
      const authority = await loadOrCreateAuthority(file, systemClock)
      const leaf = await authority.leafFor(host)
      assert.equal(await authority.leafFor(host), leaf, 'it is kept')
      const certificate = new X509Certificate(leaf.cert)
      assert.equal(certificate.subjectAltName, name)
      assert(!certificate.ca)
      assert(certificate.checkIssued(new X509Certificate(authority.certificate)))
      const server = createTlsServer(leaf, socket => socket.end())
      server.on('tlsClientError', () => {})
      await once(server.listen(0, '127.0.0.1'), 'listening')
      const address = server.address()
      assert(address !== null && typeof address === 'object')
      const { port } = address
      const dial = (as: string) =>
        once(
          connectTls({
            port,
            host: '127.0.0.1',
            ca: authority.certificate,
            checkServerIdentity: (_, cert) => {
              const known = new X509Certificate(cert.raw)
              const fits = isIP(as) === 0 ? known.checkHost(as) : known.checkIP(as)
              return fits === undefined ? new Error('another host') : undefined
            },
          }),
          'secureConnect',
        )
      await dial(host)
      await assert.rejects(dial('other.test'))
      server.close()
    })
  }

  test('a key that others may read, or that is none, or whose certificate is old, is refused', async () => {
    const broken = join(dir, 'broken.pem')
    writeFileSync(broken, 'nothing', { mode: 0o600 })
    await assert.rejects(loadOrCreateAuthority(broken, systemClock), { code: 'SECRET_FILE_INVALID' })
    const text = readFileSync(file, 'utf8')
    const other = await loadOrCreateAuthority(join(dir, 'other.pem'), systemClock)
    const key = text.slice(0, text.indexOf('-----BEGIN CERTIFICATE-----'))
    writeFileSync(broken, key + other.certificate)
    await assert.rejects(loadOrCreateAuthority(broken, systemClock), { code: 'SECRET_FILE_INVALID' })
    writeFileSync(broken, text)
    chmodSync(broken, 0o640)
    await assert.rejects(loadOrCreateAuthority(broken, systemClock), { code: 'SECRET_FILE_EXPOSED' })
    const later = { ...systemClock, wall: () => Date.now() + 3650 * 86_400_000 }
    await assert.rejects(loadOrCreateAuthority(file, later), { code: 'AUTHORITY_EXPIRED' })
  })

  test('a leaf is renewed before it ends', async () => {
    let now = 0
    const clock = { now: () => now, wall: () => Date.now() + now }
    const authority = await loadOrCreateAuthority(file, clock)
    const first = await authority.leafFor('renewed.test')
    now = 6.5 * 86_400_000
    const second = await authority.leafFor('renewed.test')
    assert.notEqual(second.cert, first.cert)
    assert(new X509Certificate(second.cert).validToDate.getTime() > clock.wall() + 86_400_000)
  })
})

describe('tunnels', () => {
  const log = createLogger({ level: 'silent', name: 'test' })
  const servers: Server[] = []
  const sockets: Socket[] = []
  after(() => {
    for (const socket of sockets) socket.destroy()
    for (const server of servers) server.close()
  })

  async function listening(onConnection: (socket: Socket) => void): Promise<number> {
    const server = createServer({ allowHalfOpen: true }, socket => {
      sockets.push(socket)
      onConnection(socket)
    })
    servers.push(server)
    await once(server.listen(0, '127.0.0.1'), 'listening')
    const address = server.address()
    assert(address !== null && typeof address === 'object')
    return address.port
  }

  /** A client's end and the proxy's end of one connection. */
  async function pair(): Promise<{ readonly client: Socket; readonly inner: Socket }> {
    const { promise, resolve } = Promise.withResolvers<Socket>()
    const port = await listening(resolve)
    const client = connect({ port, host: '127.0.0.1', allowHalfOpen: true })
    client.on('error', () => {})
    sockets.push(client)
    const inner = await promise
    inner.on('error', () => {})
    return { client, inner }
  }

  const tunnels = (
    options: Partial<
      Pick<Parameters<typeof createTunnels>[0], 'idleTimeoutMs' | 'maxTunnels' | 'lookup'>
    > = {},
  ) =>
    createTunnels({
      lookup: createOutwardLookup(),
      clock: systemClock,
      log,
      metrics: createProxyMetrics(createMetrics({ prefix: 'darter_' })),
      connectTimeoutMs: 1000,
      idleTimeoutMs: 60_000,
      ...options,
    })
  const loopback = (port: number) => ({ host: '127.0.0.1', port })

  test('bytes go both ways, each side ends by itself, and what came with the request goes first', async () => {
    const port = await listening(socket => {
      let text = ''
      socket.on('data', piece => {
        text += String(piece)
      })
      socket.on('end', () => socket.end(`heard ${text}`))
    })
    const { client, inner } = await pair()
    let accepted = 0
    await tunnels().open(inner, Buffer.from('one '), loopback(port), () => accepted++)
    assert.equal(accepted, 1)
    client.end('two')
    let answer = ''
    for await (const piece of client) answer += String(piece)
    assert.equal(answer, 'heard one two')
  })

  test('a name that leads to this machine is refused, and a port where nothing listens fails', async () => {
    const { client, inner } = await pair()
    const opened = tunnels().open(inner, Buffer.alloc(0), { host: 'localhost', port: 1 }, assert.fail)
    await assert.rejects(opened, { code: 'ORIGIN_ADDRESS' })
    const closed = tunnels().open(inner, Buffer.alloc(0), loopback(1), assert.fail)
    await assert.rejects(closed, { code: 'TUNNEL_FAILED' })
    client.destroy()
  })

  test('there are no more than allowed, and a closed one makes room', async () => {
    const port = await listening(socket => void socket.on('end', () => socket.end()).resume())
    const some = tunnels({ maxTunnels: 1 })
    const first = await pair()
    await some.open(first.inner, Buffer.alloc(0), loopback(port), () => {})
    const second = await pair()
    const busy = some.open(second.inner, Buffer.alloc(0), loopback(port), assert.fail)
    await assert.rejects(busy, { code: 'TUNNELS_BUSY' })
    first.client.destroy()
    await until('room', () =>
      some
        .open(second.inner, Buffer.alloc(0), loopback(port), () => {})
        .then(
          () => true,
          () => false,
        ),
    )
    second.client.destroy()
    await some.close(AbortSignal.timeout(5000))
  })

  test('one that is being dialled when the end comes is never opened, and none is after it', async () => {
    const port = await listening(() => assert.fail('it was dialled'))
    const { client, inner } = await pair()
    const asked = Promise.withResolvers<() => void>()
    const all = tunnels({
      lookup: (_name, _options, done) =>
        asked.resolve(() => done(null, [{ address: '127.0.0.1', family: 4 }])),
    })
    const stopped = { code: 'TUNNEL_FAILED', message: /this peer is stopping/ }
    const dialled = all.open(inner, Buffer.alloc(0), { host: 'slow.test', port }, assert.fail)
    const answer = await asked.promise
    const refused = assert.rejects(dialled, stopped)
    await all.close(AbortSignal.timeout(5000))
    answer()
    await refused
    await assert.rejects(all.open(inner, Buffer.alloc(0), loopback(port), assert.fail), stopped)
    client.destroy()
  })

  test('one whose client goes away while it is being dialled is not opened', async () => {
    const ended = Promise.withResolvers<void>()
    const port = await listening(socket => void socket.on('end', ended.resolve).resume())
    const { client, inner } = await pair()
    const opened = tunnels().open(inner, Buffer.alloc(0), loopback(port), assert.fail)
    inner.destroy()
    await assert.rejects(opened, { code: 'CLIENT_GONE' })
    await ended.promise
    client.destroy()
  })

  test('an idle one is closed; at the end busy ones are cut when the time is over', async () => {
    const port = await listening(socket => void socket.on('error', () => {}).resume())
    const idle = await pair()
    await tunnels({ idleTimeoutMs: 30 }).open(idle.inner, Buffer.alloc(0), loopback(port), () => {})
    await once(idle.client.resume(), 'end')
    idle.client.destroy()

    const busy = await pair()
    const all = tunnels()
    await all.open(busy.inner, Buffer.alloc(0), loopback(port), () => {})
    const timer = setInterval(() => busy.client.write('x'), 50).unref()
    const begun = performance.now()
    await all.close(AbortSignal.timeout(1500))
    clearInterval(timer)
    assert(performance.now() - begun > 1200, 'a busy tunnel was cut before its time')
    busy.client.destroy()
  })
})
