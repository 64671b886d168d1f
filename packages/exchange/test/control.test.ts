import assert from 'node:assert/strict'
import { type KeyObject, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import { describe, it, type TestContext } from 'node:test'
import {
  type AdmittedPeer,
  type ControlServer,
  createControlServer,
  type RefusalReason,
  type SchedulerLink,
} from '@darter/exchange'
import {
  CONTROL_PROTOCOL,
  GATE_PROTOCOL,
  handshakeMessages,
  LIMITS,
  lengthPrefixed,
  type PeerMessage,
  type SchedulerMessage,
} from '@darter/wire'
import { isProof, prove } from '../src/admission.ts'
import { createChannel } from '../src/channel.ts'
import { addressesOf } from '../src/node.ts'
import {
  addressOf,
  BLOB,
  log,
  MIB,
  newClusterKey,
  newIdentity,
  soon,
  startExchange,
  startNode,
  startServer,
} from './support.ts'

/** How long a state is awaited. */
const WAIT = { timeout: 10_000 }
const nextPeer = (server: ControlServer) =>
  new Promise<AdmittedPeer>(resolve => {
    const off = server.onPeer(peer => {
      off()
      resolve(peer)
    })
  })
const nextUp = (link: SchedulerLink) =>
  new Promise<void>(resolve => {
    const off = link.onUp(() => {
      off()
      resolve()
    })
  })
const portOf = (server: { addresses(): string[] }) =>
  Number(/\/tcp\/(\d+)/.exec(server.addresses()[0] ?? '')?.[1])

/** Schedulers of this list, by an exchange that is started by `start`, so that no event is missed. */
async function schedulerLinkOf(
  t: TestContext,
  options: Omit<Parameters<typeof startExchange>[1], 'schedulers'> & { schedulers: readonly string[] },
): Promise<{ link: SchedulerLink; peerId: string; addresses: readonly string[] }> {
  const exchange = await startExchange(t, options)
  assert.ok(exchange.scheduler)
  return { link: exchange.scheduler, peerId: exchange.peerId, addresses: exchange.addresses() }
}

/** Passes the gate by hand, as a dialler that then says nothing; how long it is to stay away, if it is sent away. */
async function connectSocket(
  port: number,
  clusterKey: KeyObject,
): Promise<{ readonly socket: Socket; readonly awayMs: number | undefined }> {
  const socket = connect(port, '127.0.0.1')
  socket.on('error', () => {})
  const dialerNonce = randomBytes(LIMITS.nonceBytes)
  socket.write(dialerNonce)
  const answer = Buffer.alloc(LIMITS.nonceBytes + LIMITS.proofBytes)
  for (let filled = 0; filled < answer.length; ) {
    const [part] = (await once(socket, 'data')) as [Buffer]
    part.copy(answer, filled)
    filled += part.length
  }
  const listenerNonce = answer.subarray(0, LIMITS.nonceBytes)
  const transcript = { protocol: GATE_PROTOCOL, dialer: '', listener: '', dialerNonce, listenerNonce }
  const proof = answer.subarray(LIMITS.nonceBytes)
  assert.ok(isProof(clusterKey, { ...transcript, role: 'listener' }, proof))
  const last = LIMITS.nonceBytes - 4
  if (listenerNonce.subarray(0, last).every(byte => byte === 0)) {
    return { socket, awayMs: listenerNonce.readUInt32BE(last) }
  }
  socket.write(prove(clusterKey, { ...transcript, role: 'dialer' }))
  return { socket, awayMs: undefined }
}

/** A TCP relay that can go silent without closing anything. */
async function relay(t: TestContext, port: number) {
  const sockets: Socket[] = []
  const server = createServer(inner => {
    const outer = connect(port, '127.0.0.1')
    sockets.push(inner, outer)
    for (const [from, to] of [
      [inner, outer],
      [outer, inner],
    ] as const) {
      from.on('error', () => {})
      from.on('close', () => to.destroy())
      from.pipe(to)
    }
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  const address = server.address()
  assert.ok(address !== null && typeof address === 'object')
  return {
    port: address.port,
    freeze: () => {
      for (const socket of sockets) {
        socket.unpipe()
        socket.pause()
      }
    },
  }
}

describe('control stream', () => {
  it('carries messages both ways after admission', async t => {
    const clusterKey = newClusterKey()
    const server = await startServer(t, { clusterKey })
    const joined = nextPeer(server)
    const { link, peerId, addresses } = await schedulerLinkOf(t, {
      clusterKey,
      schedulers: server.addresses(),
      zone: 'rack 7',
    })
    const up = nextUp(link)
    const peer = await joined
    assert.deepEqual(peer.address, { id: peerId, addresses, zone: 'rack 7' })
    await up
    assert.equal(link.connected, true)

    const said: PeerMessage[] = []
    const heard: SchedulerMessage[] = []
    const done = Promise.withResolvers<void>()
    peer.onMessage(message => {
      said.push(message)
      if (said.length === 3) peer.send({ type: 'lease-void', blob: BLOB, lease: 1 })
    })
    link.onMessage(message => {
      heard.push(message)
      done.resolve()
    })
    const hashes = new Uint8Array(randomBytes(32 * 4))
    const messages: PeerMessage[] = [
      { type: 'leave', blob: BLOB },
      { type: 'vouch', blob: BLOB, size: MIB, hashes },
      { type: 'held', blob: BLOB, chunks: Array.from({ length: 65_536 }, (_, i) => i) },
    ]
    for (const message of messages) assert.equal(link.send(message), true)
    await done.promise
    assert.deepEqual(said, messages)
    assert.deepEqual(heard, [{ type: 'lease-void', blob: BLOB, lease: 1 }])
  })

  it('drops what the other side would refuse', async t => {
    const clusterKey = newClusterKey()
    const server = await startServer(t, { clusterKey })
    const joined = nextPeer(server)
    const { link } = await schedulerLinkOf(t, { clusterKey, schedulers: server.addresses() })
    const up = nextUp(link)
    const peer = await joined
    await up
    const heard = new Promise<PeerMessage>(resolve => peer.onMessage(resolve))
    assert.equal(link.send({ type: 'held', blob: BLOB, chunks: [] }), false)
    assert.equal(link.send({ type: 'leave', blob: BLOB }), true)
    assert.deepEqual(await heard, { type: 'leave', blob: BLOB })
  })

  it('admits no one with another cluster key, and tells them nothing', async t => {
    const refused = Promise.withResolvers<RefusalReason>()
    const server = await startServer(t, {
      clusterKey: newClusterKey(),
      hooks: { onRefused: (door, reason) => (door === 'gate' ? refused.resolve(reason) : undefined) },
    })
    server.onPeer(() => refused.reject(new Error('admitted')))
    const tried = Promise.withResolvers<void>()
    const { link } = await schedulerLinkOf(t, {
      clusterKey: newClusterKey(),
      schedulers: server.addresses(),
      // Asked for the wait before the next attempt, so the first one has failed.
      random: () => {
        tried.resolve()
        return 1
      },
    })
    await tried.promise
    assert.equal(link.connected, false)
    assert.equal(link.send({ type: 'leave', blob: BLOB }), false)
    assert.equal(await refused.promise, 'left')
  })

  it('refuses a member with a forged proof, an oversized greeting and a greeting that is none', async t => {
    const reasons: RefusalReason[] = []
    let wake: (() => void) | undefined
    const clusterKey = newClusterKey()
    const server = await startServer(t, {
      clusterKey,
      hooks: {
        onRefused: (_door, reason) => {
          reasons.push(reason)
          wake?.()
        },
      },
    })
    const node = await startNode(t, { clusterKey })
    const nonce = new Uint8Array(32)
    const greetings = [
      [
        lengthPrefixed(handshakeMessages.encode({ type: 'hello', nonce })),
        lengthPrefixed(handshakeMessages.encode({ type: 'proof', proof: nonce })),
      ],
      [Uint8Array.of(0, 0, 16, 1)],
      [Uint8Array.of(255, 255, 255, 255)],
      [lengthPrefixed(randomBytes(100))],
      [lengthPrefixed(handshakeMessages.encode({ type: 'welcome', deadMs: 5000 }))],
    ]
    for (const [turn, greeting] of greetings.entries()) {
      const connection = await node.dial(addressesOf(addressOf(server)), soon())
      const closed = once(connection, 'close')
      const refused = new Promise<void>(resolve => {
        wake = resolve
      })
      const stream = await connection.newStream(CONTROL_PROTOCOL)
      for (const part of greeting) stream.send(part)
      await refused
      await closed
      assert.equal(reasons.length, turn + 1)
    }
    assert.deepEqual(reasons, ['bad-proof', 'malformed', 'malformed', 'malformed', 'malformed'])
  })

  it('does not take another scheduler for its own', async t => {
    const clusterKey = newClusterKey()
    const server = await startServer(t, { clusterKey })
    const other = (await startNode(t, { clusterKey })).peerId
    let admitted = false
    server.onPeer(() => {
      admitted = true
    })
    const tries = Promise.withResolvers<void>()
    let count = 0
    const { link } = await schedulerLinkOf(t, {
      clusterKey,
      schedulers: server.addresses().map(address => address.replace(server.peerId, other)),
      random: () => {
        if (++count === 2) tries.resolve()
        return 0
      },
    })
    await tries.promise
    assert.equal(link.connected, false)
    assert.equal(admitted, false)
  })

  it('finds the scheduler that is up among several', async t => {
    const clusterKey = newClusterKey()
    const gone = await startServer(t, { clusterKey })
    const addresses = gone.addresses()
    await gone.stop()
    const server = await startServer(t, { clusterKey })
    const joined = nextPeer(server)
    const { peerId } = await schedulerLinkOf(t, {
      clusterKey,
      schedulers: [...addresses, ...server.addresses()],
    })
    assert.equal((await joined).address.id, peerId)
  })

  it('comes back after the scheduler was restarted', async t => {
    const clusterKey = newClusterKey()
    const identity = await newIdentity()
    const first = await startServer(t, { clusterKey, identity })
    const port = portOf(first)
    const schedulers = first.addresses()
    const joined = nextPeer(first)
    const { link, peerId } = await schedulerLinkOf(t, { clusterKey, schedulers })
    const up = nextUp(link)
    await joined
    await up
    const down = new Promise<void>(resolve => link.onDown(resolve))
    await first.stop()
    await down
    assert.equal(link.connected, false)
    const upAgain = nextUp(link)
    const second = await startServer(t, { clusterKey, identity, port })
    const again = nextPeer(second)
    await upAgain
    assert.equal((await again).address.id, peerId)
  })

  it('notices on both sides that the network went silent', async t => {
    const clusterKey = newClusterKey()
    const server = await startServer(t, { clusterKey, deadMs: 400 })
    const wire = await relay(t, portOf(server))
    const joined = nextPeer(server)
    const { link } = await schedulerLinkOf(t, {
      clusterKey,
      schedulers: [`/ip4/127.0.0.1/tcp/${wire.port}/p2p/${server.peerId}`],
    })
    const up = nextUp(link)
    const peer = await joined
    await up
    const gone = Promise.all([
      new Promise<void>(resolve => peer.onClose(resolve)),
      new Promise<void>(resolve => link.onDown(resolve)),
    ])
    const from = performance.now()
    wire.freeze()
    await gone
    const took = performance.now() - from
    assert.ok(took >= 300 && took < 3000, `${took} ms`)
  })

  it('stays up as long as both sides live, without a word', async t => {
    const clusterKey = newClusterKey()
    const server = await startServer(t, { clusterKey, deadMs: 200 })
    const joined = nextPeer(server)
    const { link } = await schedulerLinkOf(t, {
      clusterKey,
      schedulers: server.addresses(),
    })
    const up = nextUp(link)
    const peer = await joined
    await up
    let ended = false
    peer.onClose(() => {
      ended = true
    })
    link.onDown(() => {
      ended = true
    })
    // That it stays up shows in time only: five times as long as a dead side would last.
    await new Promise(resolve => setTimeout(resolve, 1000))
    assert.equal(ended, false)
    assert.equal(link.connected, true)
  })

  it('carries far more than a window of messages, though it tells of its window seldom', async t => {
    const clusterKey = newClusterKey()
    const server = await startServer(t, { clusterKey })
    const joined = nextPeer(server)
    const { link } = await schedulerLinkOf(t, { clusterKey, schedulers: server.addresses() })
    const up = nextUp(link)
    const peer = await joined
    await up
    const chunks = Array.from({ length: 20_000 }, (_, chunk) => chunk)
    const total = 100
    let come = 0
    const all = new Promise<void>(resolve =>
      peer.onMessage(message => {
        assert.deepEqual(message, { type: 'held', blob: BLOB, chunks })
        if (++come === total) resolve()
      }),
    )
    for (let i = 0; i < total; i++) assert.ok(link.send({ type: 'held', blob: BLOB, chunks }))
    await all
  })

  it('asks for signs of life more seldom when there are many peers', async t => {
    const clusterKey = newClusterKey()
    const server = await startServer(t, { clusterKey, deadMs: 400, peersAtFullBeat: 1 })
    const links = []
    for (let i = 0; i < 3; i++) {
      const joined = nextPeer(server)
      const { link } = await schedulerLinkOf(t, { clusterKey, schedulers: server.addresses() })
      await joined
      links.push(link)
    }
    const wire = await relay(t, portOf(server))
    const joined = nextPeer(server)
    await schedulerLinkOf(t, {
      clusterKey,
      schedulers: [`/ip4/127.0.0.1/tcp/${wire.port}/p2p/${server.peerId}`],
    })
    const fourth = await joined
    const from = performance.now()
    const gone = new Promise<void>(resolve => fourth.onClose(resolve))
    wire.freeze()
    await gone
    assert.ok(performance.now() - from > 800, 'the fourth may be silent for three times as long as the first')
    assert.ok(links.every(link => link.connected))
  })

  it('tells those who are there when they may be silent for longer, and for less long again', async t => {
    const clusterKey = newClusterKey()
    const server = await startServer(t, { clusterKey, deadMs: 1000, peersAtFullBeat: 1 })
    const wire = await relay(t, portOf(server))
    const joined = nextPeer(server)
    const { link: first } = await schedulerLinkOf(t, {
      clusterKey,
      schedulers: [`/ip4/127.0.0.1/tcp/${wire.port}/p2p/${server.peerId}`],
    })
    const firstUp = nextUp(first)
    const peer = await joined
    await firstUp
    assert.equal(peer.deadMs, 1000)
    const others = []
    for (let i = 0; i < 4; i++) {
      const more = nextPeer(server)
      const exchange = await startExchange(t, { clusterKey, schedulers: server.addresses() })
      await more
      others.push(exchange)
    }
    // Five peers: 5 s would fit. It is told of what is twice as much as it knows, so that it may have stayed at 3 s.
    await t.waitFor(() => assert.ok(peer.deadMs >= 3000), WAIT)
    await t.waitFor(() => assert.equal(first.silenceMs, peer.deadMs), WAIT)
    for (const exchange of others) await exchange.stop()
    await t.waitFor(() => assert.equal(peer.deadMs, 1000), WAIT)
    await t.waitFor(() => assert.equal(first.silenceMs, 1000), WAIT)
    const gone = new Promise<void>(resolve => first.onDown(resolve))
    const from = performance.now()
    wire.freeze()
    await gone
    assert.ok(performance.now() - from < 3500, 'the peer believes in less, too')
  })

  it('sends a crowd away for a while instead of letting it time out, and lets in all of it', async t => {
    const clusterKey = newClusterKey()
    const refused: string[] = []
    const server = await startServer(t, {
      clusterKey,
      handshakesAtOnce: 1,
      hooks: { onRefused: (door, reason) => refused.push(`${door} ${reason}`) },
    })
    let admitted = 0
    server.onPeer(() => void admitted++)
    const crowd = 170
    // Members of the cluster that prove the key and go no further hold the line; the one that is let in says nothing either.
    const idlers = await Promise.all(
      Array.from({ length: crowd }, () => connectSocket(portOf(server), clusterKey)),
    )
    t.after(() => {
      for (const idler of idlers) idler.socket.destroy()
    })
    const away = idlers.flatMap(idler => idler.awayMs ?? [])
    assert.ok(away.length > 0 && away.length < crowd - 1)
    assert.ok(away.every(ms => ms >= 500 && ms <= 60_000))
    assert.deepEqual(new Set(refused), new Set(['gate busy']))
    const { link } = await schedulerLinkOf(t, { clusterKey, schedulers: server.addresses() })
    const up = nextUp(link)
    await t.waitFor(() => assert.ok(refused.length > away.length), WAIT)
    for (const idler of idlers) idler.socket.destroy()
    await up
    assert.equal(admitted, 1)
  })

  it('cuts a peer that does not read', async t => {
    const clusterKey = newClusterKey()
    const server = await startServer(t, { clusterKey, deadMs: 60_000 })
    const wire = await relay(t, portOf(server))
    const joined = nextPeer(server)
    await schedulerLinkOf(t, {
      clusterKey,
      schedulers: [`/ip4/127.0.0.1/tcp/${wire.port}/p2p/${server.peerId}`],
    })
    const peer = await joined
    const closed = new Promise<void>(resolve => peer.onClose(resolve))
    wire.freeze()
    const hashes = new Uint8Array(2 * MIB)
    let sent = 0
    while (peer.send({ type: 'verified', blob: BLOB, hashes })) {
      sent += hashes.length
      assert.ok(sent < 100 * MIB)
    }
    await closed
    assert.equal(peer.send({ type: 'lease-void', blob: BLOB, lease: 1 }), false)
  })

  it('lets a peer that connects again replace itself', async t => {
    const clusterKey = newClusterKey()
    const server = await startServer(t, { clusterKey })
    const identity = await newIdentity()
    const firstJoined = nextPeer(server)
    await schedulerLinkOf(t, { clusterKey, identity, schedulers: server.addresses(), random: () => 1 })
    const first = await firstJoined
    const closed = new Promise<void>(resolve => first.onClose(resolve))
    const secondJoined = nextPeer(server)
    await schedulerLinkOf(t, { clusterKey, identity, schedulers: server.addresses(), random: () => 1 })
    await closed
    assert.equal((await secondJoined).address.id, first.address.id)
  })

  it('takes only addresses that name the peer itself', async t => {
    const clusterKey = newClusterKey()
    const server = await startServer(t, { clusterKey })
    const joined = nextPeer(server)
    const { peerId } = await schedulerLinkOf(t, {
      clusterKey,
      schedulers: server.addresses(),
      announce: ['node-7.example', '10.1.2.3', 'fd00::7'],
    })
    const { addresses } = (await joined).address
    assert.equal(addresses.length, 3)
    assert.match(addresses[0] ?? '', new RegExp(`^/dns/node-7.example/tcp/\\d+/p2p/${peerId}$`))
    assert.match(addresses[2] ?? '', /^\/ip6\/fd00::7\/tcp\//)
    const foreign = {
      id: peerId,
      addresses: ['/ip4/1.2.3.4/tcp/1', 'rubbish', `/ip4/1.2.3.4/tcp/1/p2p/${server.peerId}`],
    }
    assert.deepEqual(addressesOf(foreign), [])
  })

  it('says which port is taken and which address is none', async t => {
    const clusterKey = newClusterKey()
    const server = await startServer(t, { clusterKey })
    const second = createControlServer({
      identity: await newIdentity(),
      clusterKey,
      host: '127.0.0.1',
      port: portOf(server),
      log,
    })
    await assert.rejects(second.start(), { code: 'LISTEN_FAILED' })
    await assert.rejects(startExchange(t, { clusterKey, schedulers: ['/ip4/1.2.3.4/tcp/1'] }), {
      code: 'ADDRESS_INVALID',
    })
    await assert.rejects(startServer(t, { clusterKey, host: 'example.com' }), { code: 'ADDRESS_INVALID' })
  })
})

describe('channel', () => {
  it('holds a sender back while no one reads, and loses nothing', async t => {
    const received = Promise.withResolvers<AsyncGenerator<Uint8Array>>()
    const clusterKey = newClusterKey()
    const listener = await startNode(t, {
      clusterKey,
      protocols: {
        '/test/1': stream => {
          const channel = createChannel(stream)
          channel.admit()
          received.resolve(channel.messages)
        },
        '/echo/1': async stream => {
          for await (const bytes of stream) stream.send(bytes)
        },
      },
    })
    const node = await startNode(t, { clusterKey })
    const connection = await node.dial(addressesOf(addressOf(listener)), soon())
    const stream = await connection.newStream('/test/1')
    const echo = createChannel(await connection.newStream('/echo/1'))
    const message = randomBytes(MIB)
    const count = 20
    for (let i = 0; i < count; i++) stream.send(lengthPrefixed(message))
    const messages = await received.promise
    // What is not held back goes over while these go there and back.
    for (let i = 0; i < 50; i++) {
      echo.send(Uint8Array.of(i))
      await echo.messages.next()
    }
    assert.ok(stream.writeBufferLength >= (count / 2) * MIB, `${stream.writeBufferLength} bytes left`)
    for (let i = 0; i < count; i++) {
      const { value } = await messages.next()
      assert.ok(value !== undefined && message.equals(value))
    }
    assert.equal(stream.writeBufferLength, 0)
  })
})
