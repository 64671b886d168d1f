import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { connect } from 'node:net'
import { describe, it, type TestContext } from 'node:test'
import {
  ChunkRefusedError,
  type ChunkSource,
  DialError,
  type Exchange,
  type ExchangeLimits,
  type Link,
  LinkClosedError,
  LinkProtocolError,
  LinkStalledError,
} from '@darter/exchange'
import { type Clock, createThrottle, type Logger, systemClock } from '@darter/runtime'
import { FRAME, frame, HEADER_BYTES, type LinkMessage, writeFrameHeader } from '@darter/wire'
import { type Offer, openDataSocket } from '../src/data-port.ts'
import {
  addressOf,
  askForOffer,
  BLOB,
  connectByHand,
  type HandMadePeer,
  log,
  MIB,
  newClusterKey,
  newIdentity,
  piece,
  request,
  served,
  soon,
  startExchange,
  startNode,
} from './support.ts'

const nextLink = (exchange: Exchange) =>
  new Promise<Link>(resolve => {
    const off = exchange.onLink(link => {
      off()
      resolve(link)
    })
  })
const closeOf = (link: Link) => new Promise<Error | undefined>(resolve => link.onClose(resolve))
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')

/** Two exchanges and the ends of one link between them. */
async function pair(
  t: TestContext,
  options: {
    readonly sourceA?: ChunkSource
    readonly sourceB?: ChunkSource
    readonly limits?: Partial<ExchangeLimits>
  } = {},
) {
  const clusterKey = newClusterKey()
  const limits = options.limits ?? {}
  const a = await startExchange(t, { clusterKey, limits, source: options.sourceA ?? (async () => 'missing') })
  const b = await startExchange(t, { clusterKey, limits, source: options.sourceB ?? (async () => 'missing') })
  const accepted = nextLink(b)
  const linkA = await a.link(addressOf(b), { signal: soon() })
  return { a, b, linkA, linkB: await accepted, clusterKey }
}

/** An exchange and its end of a link to a hand-made peer. */
async function withHandMade(
  t: TestContext,
  options: { readonly source?: ChunkSource; readonly limits?: Partial<ExchangeLimits> } = {},
): Promise<{ exchange: Exchange; link: Link; hand: HandMadePeer }> {
  const clusterKey = newClusterKey()
  const exchange = await startExchange(t, { clusterKey, ...options })
  const accepted = nextLink(exchange)
  const hand = await connectByHand(t, exchange, clusterKey)
  const link = await accepted
  assert.equal(link.peerId, hand.peerId)
  return { exchange, link, hand }
}

describe('link', () => {
  it('brings chunks with their hashes, both ways at once, pipelined', async t => {
    const chunks = Array.from({ length: 13 }, (_, i) => randomBytes(i === 12 ? 12_345 : 4 * MIB))
    const source: ChunkSource = async (_blob, chunk) => {
      const bytes = chunks[chunk]
      return bytes === undefined ? 'missing' : served(bytes)
    }
    const { linkA, linkB } = await pair(t, { sourceA: source, sourceB: source })
    const fetchAll = async (link: Link) => {
      const fetched = await Promise.all(
        chunks.map((bytes, chunk) => link.fetch(BLOB, chunk, bytes.length, { signal: soon() })),
      )
      for (const [i, { bytes, hash, release }] of fetched.entries()) {
        const expected = chunks[i]
        assert.ok(expected?.equals(bytes))
        assert.equal(hex(hash), sha256(bytes))
        release()
        release()
      }
    }
    await Promise.all([fetchAll(linkA), fetchAll(linkB)])
    // Again, now into memory that was used before.
    await Promise.all([fetchAll(linkA), fetchAll(linkB)])
  })

  it('is one per pair, however many ask, and from whichever side', async t => {
    const clusterKey = newClusterKey()
    for (let round = 0; round < 10; round++) {
      const a = await startExchange(t, { clusterKey })
      const b = await startExchange(t, { clusterKey })
      const made: Link[] = []
      a.onLink(link => made.push(link))
      const other = nextLink(b)
      const links = await Promise.all([
        a.link(addressOf(b), { signal: soon() }),
        a.link(addressOf(b), { signal: soon() }),
        b.link(addressOf(a), { signal: soon() }),
        b.link(addressOf(a), { signal: soon() }),
      ])
      assert.equal(links[0], links[1])
      assert.equal(links[2], links[3])
      const heard = new Promise<LinkMessage>(resolve => links[2]?.onMessage(resolve))
      links[0]?.send({ type: 'leave', blob: BLOB })
      assert.deepEqual(await heard, { type: 'leave', blob: BLOB })
      assert.equal(await other, links[2])
      assert.deepEqual(made, [links[0]])
      await Promise.all([a.stop(), b.stop()])
    }
  })

  it('says why a chunk is not served', async t => {
    const { linkA } = await pair(t, {
      sourceB: async (_blob, chunk) => {
        if (chunk === 0) return 'missing'
        if (chunk === 1) return 'busy'
        if (chunk === 2) throw new Error('bad disk')
        return served(new Uint8Array(MIB), {
          read: async (offset, target) => {
            if (offset > 0) throw new Error('bad sector')
            return target.length
          },
        })
      },
    })
    const reasons = await Promise.all(
      [0, 1, 2, 3].map(chunk =>
        linkA.fetch(BLOB, chunk, MIB, { signal: soon() }).catch((error: unknown) => {
          assert.ok(error instanceof ChunkRefusedError)
          return error.reason
        }),
      ),
    )
    assert.deepEqual(reasons, ['missing', 'busy', 'failed', 'failed'])
  })

  it('cancels a request on the other side, and goes on', async t => {
    const released = Promise.withResolvers<number>()
    const started = Promise.withResolvers<void>()
    const go = Promise.withResolvers<void>()
    let reads = 0
    const { linkA, linkB } = await pair(t, {
      sourceB: async (_blob, chunk) =>
        chunk > 0
          ? served(randomBytes(100))
          : served(new Uint8Array(4 * MIB), {
              read: async (_offset, target) => {
                if (++reads === 3) {
                  started.resolve()
                  await go.promise
                }
                return target.length
              },
              release: () => released.resolve(reads),
            }),
    })
    const abort = new AbortController()
    const doomed = linkA.fetch(BLOB, 0, 4 * MIB, { signal: abort.signal })
    const queued = linkA.fetch(BLOB, 1, 100, { signal: abort.signal })
    const good = linkA.fetch(BLOB, 2, 100, { signal: soon() })
    await started.promise
    const why = new Error('no longer wanted')
    abort.abort(why)
    await assert.rejects(doomed, why)
    await assert.rejects(queued, why)
    await assert.rejects(linkA.fetch(BLOB, 0, 1, { signal: AbortSignal.abort(why) }), why)
    // It comes after the cancel, before the third read ends.
    linkB.onMessage(() => go.resolve())
    linkA.send({ type: 'leave', blob: BLOB })
    assert.equal((await good).bytes.length, 100)
    assert.equal(await released.promise, 3)
  })

  it('lets messages overtake a chunk', async t => {
    const go = Promise.withResolvers<void>()
    const { linkA, linkB } = await pair(t, {
      sourceB: async () =>
        served(new Uint8Array(4 * MIB), {
          read: async (offset, target) => {
            if (offset >= MIB) await go.promise
            return target.length
          },
        }),
    })
    const heard = new Promise<LinkMessage>(resolve => linkA.onMessage(resolve))
    const chunk = linkA.fetch(BLOB, 0, 4 * MIB, { signal: soon() })
    const message = { type: 'have' as const, blob: BLOB, chunk: 1, load: 3, hash: new Uint8Array(32) }
    assert.equal(linkB.send(message), true)
    assert.deepEqual(await heard, message)
    go.resolve()
    assert.equal((await chunk).bytes.length, 4 * MIB)
  })

  it('lets messages pass where nothing of a chunk is taken', async t => {
    let read = 0
    const { link, hand } = await withHandMade(t, {
      source: async () =>
        served(new Uint8Array(0), {
          length: 64 * MIB,
          read: async (_offset, target) => {
            read += target.length
            return target.length
          },
        }),
    })
    hand.bodies.pause()
    hand.messages.write(request(7, 0))
    // That every buffer on the way is full shows in time only.
    for (let before = -1; before < read || read === 0; ) {
      before = read
      await new Promise(resolve => setTimeout(resolve, 200))
    }
    assert.ok(read < 64 * MIB)
    link.send({ type: 'lost', blob: BLOB, chunk: 1 })
    await hand.next('lost')
    hand.bodies.resume()
    assert.equal((await hand.next('end')).id, 7)
  })

  it('delivers in order what was said in one turn, also right before it closes', async t => {
    const { linkA, linkB } = await pair(t)
    const heard: number[] = []
    linkB.onMessage(message => void ('chunk' in message && heard.push(message.chunk)))
    for (let chunk = 0; chunk < 100; chunk++) linkA.send({ type: 'lost', blob: BLOB, chunk })
    const closed = closeOf(linkB)
    linkA.close()
    await closed
    assert.deepEqual(
      heard,
      Array.from({ length: 100 }, (_, i) => i),
    )
  })

  it('says of requests that wait for their turn that they are not forgotten, and serves others meanwhile', async t => {
    const go = Promise.withResolvers<void>()
    const { hand } = await withHandMade(t, {
      source: async (_blob, chunk) => {
        if (chunk === 0) await go.promise
        return served(Buffer.from([chunk]))
      },
    })
    hand.messages.write(request(7, 0))
    hand.messages.write(request(8, 1))
    assert.equal((await hand.next('end')).id, 8)
    for (let i = 0; i < 2; i++) assert.equal((await hand.next('wait')).id, 7)
    go.resolve()
    assert.equal((await hand.next('end')).id, 7)
  })

  it('takes a neighbour for stalled that only says so, again and again', async t => {
    const { link, hand } = await withHandMade(t, { limits: { stallMs: 400 } })
    const fetching = link.fetch(BLOB, 0, 10, { signal: soon() })
    const { id } = await hand.next('request')
    let said = 0
    const saying = setInterval(() => {
      said++
      hand.messages.write(frame('wait', id))
    }, 50)
    t.after(() => clearInterval(saying))
    await assert.rejects(fetching, LinkStalledError)
    assert.ok(said > 20, `after ${said} times`)
  })

  it('tells the one who serves when a request that waits is called off', async t => {
    const calledOff = Promise.withResolvers<void>()
    const { linkA } = await pair(t, {
      sourceB: (_blob, chunk, _neighbour, signal) => {
        if (chunk > 0) return Promise.resolve(served(randomBytes(1000)))
        return new Promise(resolve => {
          signal.addEventListener('abort', () => {
            calledOff.resolve()
            resolve('busy')
          })
        })
      },
    })
    const controller = new AbortController()
    const parked = linkA.fetch(BLOB, 0, 1000, { signal: controller.signal })
    assert.equal((await linkA.fetch(BLOB, 1, 1000, { signal: soon() })).bytes.length, 1000)
    controller.abort(new Error('called off'))
    await assert.rejects(parked, /called off/)
    await calledOff.promise
  })

  it('keeps to its upload rate over all links, in pieces that come often enough for nobody to be taken for stalled', async t => {
    const clusterKey = newClusterKey()
    const bytesPerSecond = MIB
    const sent: { at: number; bytes: number }[] = []
    const server = await startExchange(t, {
      clusterKey,
      uploadThrottle: createThrottle({ bytesPerSecond, clock: systemClock }),
      source: async () => served(Buffer.alloc(MIB)),
      hooks: {
        onBytes: (direction, bytes) => {
          if (direction === 'sent') sent.push({ at: performance.now(), bytes })
        },
      },
    })
    const peers = await Promise.all(
      Array.from({ length: 3 }, () => startExchange(t, { clusterKey, limits: { stallMs: 1000 } })),
    )
    const links = await Promise.all(peers.map(peer => peer.link(addressOf(server), { signal: soon() })))
    const began = performance.now()
    const chunks = await Promise.all(links.map(link => link.fetch(BLOB, 0, MIB, { signal: soon() })))
    for (const { bytes } of chunks) assert.equal(bytes.length, MIB)
    let sum = 0
    for (const { at, bytes } of sent) {
      sum += bytes
      const allowed = bytesPerSecond * (0.25 + (at - began) / 1000)
      assert.ok(sum <= allowed, `${sum} bytes after ${at - began} ms`)
    }
    assert.equal(sum, 3 * MIB)
  })

  it('keeps to its download rate by reading no more, and takes nobody for stalled meanwhile', async t => {
    const clusterKey = newClusterKey()
    const bytesPerSecond = 128 * 1024
    const senders = await Promise.all(
      Array.from({ length: 2 }, () =>
        startExchange(t, { clusterKey, source: async () => served(Buffer.alloc(MIB / 4)) }),
      ),
    )
    const throttle = createThrottle({ bytesPerSecond, clock: systemClock })
    // A turn of a link takes longer than these.
    const limits = { stallMs: 200, deadMs: 200 }
    const peer = await startExchange(t, { clusterKey, downloadThrottle: throttle, limits })
    const began = performance.now()
    const links = await Promise.all(senders.map(sender => peer.link(addressOf(sender), { signal: soon() })))
    const chunks = await Promise.all(links.map(link => link.fetch(BLOB, 0, MIB / 4, { signal: soon() })))
    for (const { bytes } of chunks) assert.equal(bytes.length, MIB / 4)
    const seconds = (performance.now() - began) / 1000
    // Each link has read up to 64 KiB before it waits.
    const least = (MIB / 2 - 2 * 64 * 1024) / bytesPerSecond - 0.25
    assert.ok(seconds >= least, `${seconds} s instead of ${least} s`)
    assert.equal(throttle.holdsBack, true)
  })

  for (const length of [256 * 1024, 4 * MIB]) {
    it(`tells now and then how much of a chunk of ${length} bytes has come`, async t => {
      const clusterKey = newClusterKey()
      const server = await startExchange(t, {
        clusterKey,
        source: async () => served(Buffer.alloc(length)),
      })
      // So slow that no two pieces come together.
      const downloadThrottle = createThrottle({ bytesPerSecond: 8 * length, clock: systemClock })
      const peer = await startExchange(t, { clusterKey, downloadThrottle })
      const link = await peer.link(addressOf(server), { signal: soon() })
      const told: number[] = []
      await link.fetch(BLOB, 0, length, { signal: soon(), onProgress: received => told.push(received) })
      const steps = told.map((received, i) => received - (told[i - 1] ?? 0))
      assert.equal(told.at(-1), length)
      assert.ok(told.length >= 4 && told.length <= 18, `told ${told.join(', ')}`)
      assert.ok(
        steps.slice(1, -1).every(step => step >= 64 * 1024),
        `steps ${steps.join(', ')}`,
      )
    })
  }

  it('closes at once though its limits hold it back', async t => {
    const clusterKey = newClusterKey()
    const slow = () => createThrottle({ bytesPerSecond: 1000, clock: systemClock })
    const warnings: unknown[] = []
    const recording: Logger = Object.assign(log.child({}), {
      warn: (...line: unknown[]) => void warnings.push(line),
      child: () => recording,
    })
    const server = await startExchange(t, {
      clusterKey,
      uploadThrottle: slow(),
      source: async () => served(Buffer.alloc(MIB)),
      log: recording,
    })
    const peer = await startExchange(t, { clusterKey, downloadThrottle: slow() })
    const began = Promise.withResolvers<void>()
    const link = await peer.link(addressOf(server), { signal: soon() })
    const fetching = link.fetch(BLOB, 0, MIB, { signal: soon(), onProgress: () => began.resolve() })
    await assert.rejects(Promise.all([fetching, began.promise.then(() => link.close())]), LinkClosedError)
    await Promise.all([peer.stop(), server.stop()])
    assert.deepEqual(warnings, [])
  })

  it('closes in order when no blob is of interest to either side', async t => {
    const { linkA, linkB } = await pair(t, { limits: { idleMs: 200 } })
    const interest = {
      type: 'interest' as const,
      blob: BLOB,
      size: 0,
      held: new Uint8Array(0),
      hashes: new Uint8Array(0),
    }
    linkA.send(interest)
    let isClosed = false
    const closed = Promise.all([closeOf(linkA), closeOf(linkB)])
    linkA.onClose(() => {
      isClosed = true
    })
    // That interest keeps it open shows in time only: three times as long as an idle link lasts.
    await new Promise(resolve => setTimeout(resolve, 600))
    assert.equal(isClosed, false)
    const leftAt = performance.now()
    linkA.send({ type: 'leave', blob: BLOB })
    assert.deepEqual(await closed, [undefined, undefined])
    assert.ok(performance.now() - leftAt >= 150)
    await assert.rejects(linkA.fetch(BLOB, 0, 1, { signal: soon() }), LinkClosedError)
    assert.equal(linkA.send(interest), false)
  })

  it('gives way to a new one when the peer has come back', async t => {
    const clusterKey = newClusterKey()
    const identity = await newIdentity()
    const b = await startExchange(t, { clusterKey })
    const first = nextLink(b)
    const before = await startExchange(t, { clusterKey, identity })
    await before.link(addressOf(b), { signal: soon() })
    const old = await first
    const closed = closeOf(old)
    // The same peer, which knows nothing of its earlier life.
    const after = await startExchange(t, { clusterKey, identity })
    const second = nextLink(b)
    await after.link(addressOf(b), { signal: soon() })
    assert.notEqual(await second, old)
    assert.ok((await closed) instanceof LinkClosedError)
    assert.equal(await b.link(addressOf(after), { signal: soon() }), await second)
  })

  it('fails what waits when it is closed, on either side', async t => {
    const never = Promise.withResolvers<void>()
    t.after(() => never.resolve())
    const source: ChunkSource = async () =>
      served(new Uint8Array(10), { read: () => never.promise.then(() => 10) })
    const { linkA, linkB } = await pair(t, { sourceB: source, sourceA: source })
    const here = linkA.fetch(BLOB, 0, 10, { signal: soon() })
    const there = linkB.fetch(BLOB, 0, 10, { signal: soon() })
    const reasons = Promise.all([closeOf(linkA), closeOf(linkB)])
    linkA.close()
    await assert.rejects(here, LinkClosedError)
    await assert.rejects(there, LinkClosedError)
    const [own, other] = await reasons
    assert.equal(own, undefined)
    assert.ok(other instanceof LinkClosedError)
  })
})

describe('dialling', () => {
  it('fails with the reason, and not again at once', async t => {
    let now = 0
    const clock: Clock = { ...systemClock, now: () => now }
    const a = await startExchange(t, { clusterKey: newClusterKey(), clock })
    const b = await startExchange(t, { clusterKey: newClusterKey() })
    const peer = addressOf(b)
    const failure = await a.link(peer, { signal: soon() }).catch((error: unknown) => error)
    assert.ok(failure instanceof DialError)
    assert.match(failure.message, /another cluster key/)
    await assert.rejects(a.link(peer, { signal: soon() }), (error: unknown) => error === failure)
    now = 2000
    await assert.rejects(
      a.link(peer, { signal: soon() }),
      (error: unknown) => error instanceof DialError && error !== failure,
    )
  })

  it('reports a peer that is not there, or is someone else', async t => {
    const clusterKey = newClusterKey()
    const a = await startExchange(t, { clusterKey })
    const b = await startExchange(t, { clusterKey })
    const other = (await startNode(t, { clusterKey })).peerId
    const impostor = {
      id: other,
      addresses: b.addresses().map(address => address.replace(b.peerId, other)),
      zone: '',
    }
    await assert.rejects(a.link(impostor, { signal: soon() }), DialError)
    const peer = addressOf(b)
    await b.stop()
    await assert.rejects(a.link(peer, { signal: soon() }), DialError)
    await assert.rejects(a.link({ ...peer, id: 'x' }, { signal: soon() }), /no address that names it/)
    await assert.rejects(a.link(addressOf(a), { signal: soon() }), /this peer itself/)
  })

  it('stops when no one waits for it any more', async t => {
    const clusterKey = newClusterKey()
    const a = await startExchange(t, { clusterKey })
    const abort = new AbortController()
    const peer = addressOf(await startExchange(t, { clusterKey }))
    const attempt = a.link(peer, { signal: abort.signal })
    const why = new Error('never mind')
    abort.abort(why)
    await assert.rejects(attempt, why)
    // It is no failure of the peer's: the next attempt is made.
    assert.equal((await a.link(peer, { signal: soon() })).peerId, peer.id)
  })

  it('is turned away where there is no room', async t => {
    const clusterKey = newClusterKey()
    const full = await startExchange(t, { clusterKey, limits: { maxLinks: 1 } })
    const a = await startExchange(t, { clusterKey })
    const b = await startExchange(t, { clusterKey })
    await a.link(addressOf(full), { signal: soon() })
    await assert.rejects(b.link(addressOf(full), { signal: soon() }), /no room/)
  })
})

describe('data port', () => {
  it('knows only keys that were offered, each once', async t => {
    const clusterKey = newClusterKey()
    const refusals: string[] = []
    let wake: (() => void) | undefined
    const exchange = await startExchange(t, {
      clusterKey,
      hooks: {
        onRefused: (door, reason) => {
          refusals.push(`${door} ${reason}`)
          wake?.()
        },
      },
    })
    const node = await startNode(t, { clusterKey })
    const { port, ...offer } = await askForOffer(node, exchange, clusterKey)
    const to = (offer: Offer) => ({ host: '127.0.0.1', port, offer, signal: soon() })
    const open = (offer: Offer) => openDataSocket(to(offer), 'messages')
    const refused = () =>
      new Promise<void>(resolve => {
        wake = resolve
      })

    let turn = refused()
    await assert.rejects(open({ ...offer, pskId: 'ab'.repeat(16) }))
    await turn
    turn = refused()
    await assert.rejects(open({ ...offer, psk: new Uint8Array(32) }))
    await turn
    // Neither spent the key.
    const accepted = nextLink(exchange)
    const messages = await open(offer)
    turn = refused()
    await assert.rejects(open(offer))
    await turn
    const bodies = await openDataSocket(to(offer), 'bodies')
    messages.socket.write(frame('open'))
    const link = await accepted
    assert.equal(link.peerId, node.peerId)
    turn = refused()
    await assert.rejects(openDataSocket(to(offer), 'bodies'))
    await turn
    for (const garbage of [
      Buffer.alloc(2000, 0x5a),
      Buffer.from('GET / HTTP/1.1\r\n\r\n'),
      Buffer.alloc(0),
    ]) {
      turn = refused()
      const raw = connect(port, '127.0.0.1')
      raw.on('error', () => {})
      raw.resume()
      raw.end(garbage)
      await turn
    }
    assert.deepEqual(refusals, [
      'data unknown-key',
      'data unknown-key',
      'data unknown-key',
      'data unknown-key',
      'data malformed',
      'data malformed',
      'data left',
    ])
    const closed = closeOf(link)
    bodies.socket.destroy()
    await closed
  })

  it('keeps no half of a link, and no key of one', async t => {
    const clusterKey = newClusterKey()
    const exchange = await startExchange(t, { clusterKey })
    exchange.onLink(() => assert.fail('half a link'))
    const node = await startNode(t, { clusterKey })
    const { port, ...offer } = await askForOffer(node, exchange, clusterKey)
    const to = { host: '127.0.0.1', port, offer, signal: soon() }
    const { socket } = await openDataSocket(to, 'messages')
    await new Promise<void>(resolve => {
      socket.once('close', () => resolve())
      socket.end()
      socket.resume()
    })
    await assert.rejects(openDataSocket(to, 'bodies'))
  })
})

describe('a bad neighbour', () => {
  it('that stalls is found out and dropped', async t => {
    const { link, hand } = await withHandMade(t, { limits: { stallMs: 300 } })
    const chunk = link.fetch(BLOB, 0, MIB, { signal: soon() })
    const closed = closeOf(link)
    const { id } = await hand.next('request')
    const from = performance.now()
    hand.bodies.write(piece(id, new Uint8Array(1000)))
    // Messages and pongs are no progress.
    const chatter = setInterval(() => hand.messages.write(frame('pong')), 20)
    t.after(() => clearInterval(chatter))
    await assert.rejects(chunk, LinkStalledError)
    const took = performance.now() - from
    assert.ok(took >= 200 && took < 1500, `${took} ms`)
    assert.ok((await closed) instanceof LinkStalledError)
    await hand.closed
  })

  it('that never says what has come is found out and dropped', async t => {
    const released = Promise.withResolvers<boolean>()
    const { link, hand } = await withHandMade(t, {
      limits: { toldMs: 300 },
      source: async () => served(new Uint8Array(10), { release: whole => released.resolve(whole) }),
    })
    const closed = closeOf(link)
    hand.messages.write(request(7, 0))
    await hand.next('end')
    assert.ok((await closed) instanceof LinkStalledError)
    assert.equal(await released.promise, true)
  })

  it('that uses the id of a request again is dropped, and costs nothing for ever', async t => {
    let open = 0
    const { link, hand } = await withHandMade(t, {
      source: async () => {
        open++
        return served(new Uint8Array(10), { release: () => void open-- })
      },
    })
    const closed = closeOf(link)
    hand.messages.write(request(7, 0))
    await hand.next('end')
    hand.messages.write(request(7, 1))
    assert.ok((await closed) instanceof LinkProtocolError)
    assert.equal(open, 0)
  })

  it('that is slow but moves is not dropped', async t => {
    const { link, hand } = await withHandMade(t, { limits: { stallMs: 300 } })
    const chunk = link.fetch(BLOB, 0, 10, { signal: soon() })
    const { id } = await hand.next('request')
    for (let i = 0; i < 10; i++) {
      // Ten of them are twice as long as it may send nothing, one is far less.
      await new Promise(resolve => setTimeout(resolve, 60))
      hand.bodies.write(piece(id, Uint8Array.of(i)))
    }
    hand.bodies.write(frame('end', id))
    assert.deepEqual([...(await chunk).bytes], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
  })

  it('that vanishes fails what waits', async t => {
    const { link, hand } = await withHandMade(t)
    const chunk = link.fetch(BLOB, 0, MIB, { signal: soon() })
    const closed = closeOf(link)
    const { id } = await hand.next('request')
    hand.bodies.write(piece(id, new Uint8Array(1000)), () => hand.bodies.destroy())
    await assert.rejects(chunk, LinkClosedError)
    assert.ok((await closed) instanceof LinkClosedError)
  })

  it('that answers no ping is dropped', async t => {
    const { link, hand } = await withHandMade(t, { limits: { deadMs: 300 } })
    const closed = closeOf(link)
    await hand.next('ping')
    assert.ok((await closed) instanceof LinkClosedError)
  })

  it('that sends other bytes cannot hide it', async t => {
    const { link, hand } = await withHandMade(t)
    const chunk = link.fetch(BLOB, 0, 100, { signal: soon() })
    const { id } = await hand.next('request')
    const lie = randomBytes(100)
    hand.bodies.write(piece(id, lie.subarray(0, 60)))
    hand.bodies.write(piece(id, lie.subarray(60)))
    hand.bodies.write(frame('end', id))
    assert.equal(hex((await chunk).hash), sha256(lie))
  })

  const offences: readonly (readonly [
    string,
    'messages' | 'bodies',
    (id: number) => readonly Uint8Array[],
  ])[] = [
    [
      'a chunk that is too long',
      'bodies',
      id => [piece(id, new Uint8Array(100)), piece(id, new Uint8Array(1))],
    ],
    ['a chunk that is too short', 'bodies', id => [piece(id, new Uint8Array(99)), frame('end', id)]],
    ['a piece that no one asked for', 'bodies', id => [piece(id + 1, new Uint8Array(1))]],
    ['an end that no one waits for', 'bodies', id => [frame('end', id + 1)]],
    ['a piece among the messages', 'messages', id => [piece(id, new Uint8Array(1))]],
    ['an end among the messages', 'messages', id => [frame('end', id)]],
    ['a message among the bodies', 'bodies', () => [frame('ping')]],
    ['a refusal for no known reason', 'messages', id => [frame('refuse', id, Uint8Array.of(99))]],
    ['an opening in the middle', 'messages', () => [frame('open')]],
    ['a message that is none', 'messages', () => [frame('message', 0, randomBytes(50))]],
    ['a request for no digest', 'messages', () => [frame('request', 1, new Uint8Array(75))]],
    ['a frame of no known type', 'messages', () => [new Uint8Array(HEADER_BYTES).fill(77)]],
    ['an endless piece', 'bodies', id => [header(FRAME.piece, id, 2 ** 31)]],
    ['an endless message', 'messages', () => [header(FRAME.message, 0, 2 ** 32 - 1)]],
  ]
  const header = (type: number, id: number, length: number) => {
    const bytes = new Uint8Array(HEADER_BYTES)
    writeFrameHeader(bytes, type, id, length)
    return bytes
  }
  for (const [offence, where, frames] of offences) {
    it(`that sends ${offence} is dropped`, async t => {
      const { link, hand } = await withHandMade(t)
      const chunk = link.fetch(BLOB, 0, 100, { signal: soon() })
      const closed = closeOf(link)
      const { id } = await hand.next('request')
      for (const bytes of frames(id)) hand[where].write(bytes)
      await assert.rejects(chunk, LinkProtocolError)
      assert.ok((await closed) instanceof LinkProtocolError)
      await hand.closed
    })
  }

  it('that goes on with a cancelled chunk is listened to without keeping it', async t => {
    const { link, hand } = await withHandMade(t)
    const abort = new AbortController()
    const doomed = link.fetch(BLOB, 0, 100, { signal: abort.signal })
    const { id } = await hand.next('request')
    abort.abort(new Error('enough'))
    await assert.rejects(doomed, /enough/)
    assert.equal((await hand.next('cancel')).id, id)
    const next = link.fetch(BLOB, 1, 3, { signal: soon() })
    const other = await hand.next('request')
    assert.notEqual(other.id, id)
    hand.bodies.write(piece(id, new Uint8Array(50)))
    hand.bodies.write(frame('end', id))
    hand.bodies.write(piece(other.id, Uint8Array.of(1, 2, 3)))
    hand.bodies.write(frame('end', other.id))
    assert.deepEqual([...(await next).bytes], [1, 2, 3])
  })

  it('that takes nothing of what it asked for costs little memory, and is dropped', async t => {
    let read = 0
    const { link, hand } = await withHandMade(t, {
      limits: { takeMs: 500, deadMs: 60_000 },
      source: async () =>
        served(new Uint8Array(4 * MIB), {
          read: async (_offset, target) => {
            read += target.length
            return target.length
          },
        }),
    })
    const closed = closeOf(link)
    hand.bodies.pause()
    for (let id = 1; id <= 60; id++) hand.messages.write(request(id, id))
    assert.ok((await closed) instanceof LinkStalledError)
    // Of 240 MiB, what fits the two kernels' socket buffers and a few pieces.
    assert.ok(read < 24 * MIB, `${read} bytes were read`)
  })

  it('that asks for everything at once is told to wait', async t => {
    const go = Promise.withResolvers<void>()
    t.after(() => go.resolve())
    const { hand } = await withHandMade(t, {
      source: async () => {
        await go.promise
        return 'missing'
      },
    })
    hand.messages.write(Buffer.concat(Array.from({ length: 1000 }, (_, i) => request(i + 1, i))))
    const { id, payload } = await hand.next('refuse')
    assert.ok(id > 60)
    assert.deepEqual([...payload], [1])
    // It gets one answer to each, and no more.
    let refusals = 1
    go.resolve()
    while (refusals < 1000) {
      await hand.next('refuse')
      refusals++
    }
  })
})
