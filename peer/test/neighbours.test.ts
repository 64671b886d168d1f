import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { describe, it } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import type { Exchange, Link } from '@darter/exchange'
import { MAX_MANIFEST_BYTES } from '@darter/oci'
import { systemClock } from '@darter/runtime'
import { type ChunkStore, createMemoryStore, type StoredBlob, StoreIoError } from '@darter/store'
import { Bitfield, chunkLayout, MIN_CHUNK_BYTES } from '@darter/swarm'
import type { LinkMessage, PeerMessage, SchedulerMessage } from '@darter/wire'
import type { BlobReads, OpenBlobRequest } from '../src/download/contract.ts'
import { neighbourhoodOver } from './support/neighbourhood.ts'
import { scriptedOrigin } from './support/origin.ts'
import { readsOver } from './support/reads.ts'

const BLOB = Uint8Array.from({ length: MIN_CHUNK_BYTES * 3 }, (_, i) => (i * 31) >>> 7)
const layout = chunkLayout(BLOB.length)
const { digest } = scriptedOrigin(BLOB, [])
const sha256 = (bytes: Uint8Array): Buffer => createHash('sha256').update(bytes).digest()
const chunkOf = (index: number): Uint8Array =>
  BLOB.subarray(layout.offset(index), layout.offset(index) + layout.length(index))

/** A link whose other side is the test. */
function scriptedLink(give: (chunk: number) => Promise<Uint8Array>): Link & {
  readonly sent: LinkMessage[]
  say(message: LinkMessage): void
} {
  const sent: LinkMessage[] = []
  let handler: (message: LinkMessage) => void = () => {}
  return {
    peerId: 'neighbour',
    receivedBytes: 0,
    sent,
    say: message => {
      handler(message)
      // Whoever holds something offers it.
      if (message.type === 'have') handler({ type: 'slot', blob: message.blob, chunk: message.chunk })
      if (message.type !== 'interest' && message.type !== 'holds') return
      for (const chunk of Bitfield.fromBytes(chunkLayout(message.size).count, message.held).indices()) {
        handler({ type: 'slot', blob: message.blob, chunk })
      }
    },
    send: message => {
      sent.push(message)
      return true
    },
    fetch: async (_blob, chunk) => {
      const bytes = await give(chunk)
      return { bytes, hash: sha256(bytes), release: () => {} }
    },
    onMessage: added => {
      handler = added
      return () => {}
    },
    onClose: () => () => {},
    close: () => {},
  }
}

/** An exchange whose scheduler and links are the test's. */
function scriptedExchange(): {
  readonly exchange: Exchange
  readonly told: PeerMessage[]
  say(message: SchedulerMessage): void
  up(): void
  connect(link: Link): void
} {
  const told: PeerMessage[] = []
  let onMessage: (message: SchedulerMessage) => void = () => {}
  let onUp: () => void = () => {}
  let onLink: (link: Link) => void = () => {}
  const exchange: Exchange = {
    peerId: 'here',
    scheduler: {
      connected: true,
      silenceMs: 5_000,
      send: message => {
        told.push(message)
        return true
      },
      onMessage: handler => {
        onMessage = handler
        return () => {}
      },
      onUp: handler => {
        onUp = handler
        return () => {}
      },
      onDown: () => () => {},
    },
    addresses: () => [],
    start: async () => {},
    stop: async () => {},
    link: async () => {
      throw new Error('nobody is there')
    },
    onLink: handler => {
      onLink = handler
      return () => {}
    },
  }
  return {
    exchange,
    told,
    say: message => onMessage(message),
    up: () => onUp(),
    connect: link => onLink(link),
  }
}

const HASHES = [0, 1, 2].map(index => sha256(chunkOf(index)))

function interestOf(chunks: readonly number[], hashes: readonly Uint8Array[]): LinkMessage {
  const held = new Bitfield(layout.count)
  for (const chunk of chunks) held.set(chunk)
  return {
    type: 'interest',
    blob: digest,
    size: BLOB.length,
    held: held.toBytes(),
    hashes: Buffer.concat(hashes),
  }
}

function requestOf(signal: AbortSignal): OpenBlobRequest {
  const { origin } = scriptedOrigin(BLOB, [])
  const upstream = { name: 'scripted', hosts: [], origin, isPublic: true, hasCredentials: false }
  return { upstream, repository: 'a/b', digest, size: BLOB.length, signal }
}

/** A blob that is too large to be a manifest. */
function largeBlob() {
  const bytes = Uint8Array.from({ length: MAX_MANIFEST_BYTES + 1 }, (_, i) => (i * 31) >>> 7)
  const layout = chunkLayout(bytes.length)
  const { digest } = scriptedOrigin(bytes, [])
  const chunks = Array.from({ length: layout.count }, (_, i) =>
    bytes.subarray(layout.offset(i), layout.offset(i) + layout.length(i)),
  )
  return {
    bytes,
    digest,
    layout,
    chunks,
    /** What a neighbour that holds all of it says. */
    interest: (hashes: readonly Uint8Array[]): LinkMessage => ({
      type: 'interest',
      blob: digest,
      size: bytes.length,
      held: Bitfield.full(layout.count).toBytes(),
      hashes: Buffer.concat(hashes),
    }),
    request: (): OpenBlobRequest => {
      const { origin } = scriptedOrigin(bytes, [])
      const upstream = { name: 'scripted', hosts: [], origin, isPublic: true, hasCredentials: false }
      return { upstream, repository: 'a/b', digest, size: bytes.length, signal: AbortSignal.timeout(20_000) }
    },
  }
}

async function bytesOf(read: Awaited<ReturnType<BlobReads['open']>>): Promise<Buffer> {
  assert.ok(!('unsatisfiable' in read))
  const parts: Uint8Array[] = []
  for await (const piece of read.body) parts.push(Uint8Array.from(piece))
  return Buffer.concat(parts)
}

/** A store that does something of the test's before it writes or reads a chunk. */
function intercepted(
  store: ChunkStore,
  before: {
    writeChunk?(index: number, blob: StoredBlob): Promise<void>
    readChunk?(index: number, blob: StoredBlob): Promise<void>
  },
): ChunkStore {
  const wrap = (blob: StoredBlob): StoredBlob =>
    new Proxy(blob, {
      get: (target, name) => {
        if (name === 'writeChunk') {
          return async (index: number, bytes: Uint8Array, hash: Uint8Array) => {
            await before.writeChunk?.(index, target)
            return await target.writeChunk(index, bytes, hash)
          }
        }
        if (name === 'readChunk') {
          return async (index: number, offset: number, into: Uint8Array) => {
            await before.readChunk?.(index, target)
            return await target.readChunk(index, offset, into)
          }
        }
        const value: unknown = Reflect.get(target, name, target)
        return typeof value === 'function' ? value.bind(target) : value
      },
    })
  return new Proxy(store, {
    get: (target, name) => {
      if (name === 'open')
        return async (blob: typeof digest, size: number) => wrap(await target.open(blob, size))
      const value: unknown = Reflect.get(target, name, target)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
}

describe('a peer among its neighbours', () => {
  it('waits for a chunk that takes long as long as bytes of it come, and not longer', async t => {
    for (const bytesCome of [true, false]) {
      await t.test(bytesCome ? 'bytes come' : 'none come', async () => {
        const store = createMemoryStore({ quotaBytes: 1e9, clock: systemClock })
        const { exchange, say, connect } = scriptedExchange()
        // Forty times as fast: a chunk takes 100 s.
        const clock = { now: () => systemClock.now() * 40, wall: systemClock.wall }
        const reads = await readsOver(store, exchange, clock)
        await reads.start()
        let receivedBytes = 0
        const arriving = setInterval(() => {
          if (bytesCome) receivedBytes++
        }, 20)
        const scripted = scriptedLink(chunk => delay(2500, chunkOf(chunk)))
        const link: typeof scripted = Object.defineProperty(scripted, 'receivedBytes', {
          get: () => receivedBytes,
        })
        connect(link)
        const request = requestOf(AbortSignal.timeout(20_000))
        const { origin } = scriptedOrigin(
          BLOB,
          Array.from({ length: 1000 }, () => ({ kind: 'unreachable' as const })),
        )
        const upstream = { ...request.upstream, origin }
        try {
          const reading = reads.open({ ...request, upstream }).then(bytesOf)
          const outcome = reading.then(
            bytes => bytes.equals(BLOB),
            () => 'gave up',
          )
          while (reads.active === 0) await new Promise(setImmediate)
          say({ type: 'neighbours', blob: digest, peers: [] })
          link.say(interestOf([0, 1, 2], HASHES))
          assert.equal(await outcome, bytesCome ? true : 'gave up')
        } finally {
          clearInterval(arriving)
          await reads.stop(AbortSignal.timeout(1000))
          await store.close()
        }
      })
    }
  })

  it('never serves a range from a chunk that was being written when the verified list came', async () => {
    const wrong = Uint8Array.from(chunkOf(1))
    wrong[5]! ^= 1
    const memory = createMemoryStore({ quotaBytes: 1e9, clock: systemClock })
    const gate = Promise.withResolvers<void>()
    const reached = Promise.withResolvers<void>()
    const store = intercepted(memory, {
      writeChunk: async index => {
        if (index !== 1) return
        reached.resolve()
        await gate.promise
      },
    })
    const { exchange, say, connect } = scriptedExchange()
    const reads = await readsOver(store, exchange)
    await reads.start()
    const link = scriptedLink(async () => wrong)
    connect(link)
    const gone = new AbortController()
    const whole = assert.rejects(reads.open(requestOf(gone.signal)))
    try {
      while (reads.active === 0) await new Promise(setImmediate)
      say({ type: 'neighbours', blob: digest, peers: [] })
      link.say(interestOf([1], [sha256(wrong)]))
      await reached.promise
      say({ type: 'verified', blob: digest, hashes: Buffer.concat(HASHES) })
      gate.resolve()
      await new Promise(setImmediate)
      const span = { from: layout.offset(1), to: layout.offset(2) }
      const got = await bytesOf(
        await reads.open({ ...requestOf(AbortSignal.timeout(20_000)), span: () => span }),
      )
      assert.ok(got.equals(chunkOf(1)))
    } finally {
      gone.abort(new Error('gone'))
      await whole
      await reads.stop(AbortSignal.timeout(1000))
      await memory.close()
    }
  })

  it('never ends a response well whose beginning was wrong, though a chunk was lost on the way', async () => {
    const wrong = Uint8Array.from(chunkOf(0))
    wrong[5]! ^= 1
    const memory = createMemoryStore({ quotaBytes: 1e9, clock: systemClock })
    let begun = false
    let lost = false
    const { exchange, say, connect } = scriptedExchange()
    const store = intercepted(memory, {
      readChunk: async (index, blob) => {
        if (index !== 1 || !begun || lost) return
        lost = true
        link.say({ type: 'lost', blob: digest, chunk: 1 })
        await blob.dropChunk(1)
        // What is still missing comes from the origin, once this read has failed.
        setImmediate(() => say({ type: 'lease', blob: digest, lease: 1, from: 1, to: 3 }))
      },
    })
    const reads = await readsOver(store, exchange)
    await reads.start()
    const link = scriptedLink(async chunk => (chunk === 0 ? wrong : chunkOf(chunk)))
    connect(link)
    try {
      const opening = reads.open(requestOf(AbortSignal.timeout(20_000)))
      while (reads.active === 0) await new Promise(setImmediate)
      say({ type: 'neighbours', blob: digest, peers: [] })
      link.say(interestOf([0, 1], [sha256(wrong), HASHES[1]!]))
      const read = await opening
      assert.ok(!('unsatisfiable' in read))
      const parts: Uint8Array[] = []
      await assert.rejects(
        async () => {
          for await (const piece of read.body) {
            parts.push(Uint8Array.from(piece))
            begun = true
          }
        },
        { code: 'WRONG_BYTES_SENT' },
      )
      assert.ok(lost)
    } finally {
      await reads.stop(AbortSignal.timeout(1000))
      await memory.close()
    }
  })

  it('leaves the digest of a large blob whose chunks match the verified list to the scrub, which may refute the list', async () => {
    const { bytes, digest, layout, chunks, interest, request } = largeBlob()
    const wrong = chunks.map(chunk => Uint8Array.from(chunk))
    wrong[1]![5]! ^= 1
    const lie = wrong.map(sha256)
    const store = createMemoryStore({ quotaBytes: 1e9, clock: systemClock })
    const { exchange, say, connect, told } = scriptedExchange()
    const reads = await readsOver(store, exchange)
    await reads.start()
    const link = scriptedLink(async chunk => wrong[chunk]!)
    connect(link)
    const vouched = () => told.filter(message => message.type === 'vouch')
    const listSaid = async () => {
      while (reads.active === 0) await new Promise(setImmediate)
      say({ type: 'neighbours', blob: digest, peers: [] })
      say({ type: 'verified', blob: digest, hashes: Buffer.concat(lie) })
    }
    try {
      const first = reads.open(request())
      await listSaid()
      link.say(interest(lie))
      assert.ok((await bytesOf(await first)).equals(Buffer.concat(wrong)), 'what the list says is believed')
      while (store.info(digest)?.complete !== true) await new Promise(setImmediate)
      const { signal } = new AbortController()
      const report = await store.scrub({ bytesPerSecond: 1e9, signal })
      assert.equal(report.dropped, layout.count)
      assert.deepEqual(vouched(), [])
      const again = reads.open(request())
      await listSaid()
      say({ type: 'lease', blob: digest, lease: 1, from: 0, to: layout.count })
      assert.ok((await bytesOf(await again)).equals(bytes), 'the list is not believed again')
      assert.equal(vouched().length, 1, 'and what is right is told')
    } finally {
      await reads.stop(AbortSignal.timeout(1000))
      await store.close()
    }
  })

  it('does not leave to a scrub what may be a manifest', async () => {
    const store = createMemoryStore({ quotaBytes: 1e9, clock: systemClock })
    const { exchange, say, connect } = scriptedExchange()
    const reads = await readsOver(store, exchange)
    await reads.start()
    const wrong = Uint8Array.from(chunkOf(1))
    wrong[5]! ^= 1
    const lie = HASHES.with(1, sha256(wrong))
    const link = scriptedLink(async chunk => (chunk === 1 ? wrong : chunkOf(chunk)))
    connect(link)
    try {
      const opening = reads.open(requestOf(AbortSignal.timeout(20_000)))
      while (reads.active === 0) await new Promise(setImmediate)
      say({ type: 'neighbours', blob: digest, peers: [] })
      say({ type: 'verified', blob: digest, hashes: Buffer.concat(lie) })
      link.say(interestOf([0, 1, 2], lie))
      await assert.rejects(async () => bytesOf(await opening), { code: 'WRONG_BYTES_SENT' })
    } finally {
      await reads.stop(AbortSignal.timeout(1000))
      await store.close()
    }
  })

  it('hashes on when the list that all chunks matched is believed no more', async () => {
    const { bytes, digest, chunks, interest, request } = largeBlob()
    const hashes = chunks.map(sha256)
    const store = createMemoryStore({ quotaBytes: 1e9, clock: systemClock })
    const { exchange, say, connect, told } = scriptedExchange()
    const reads = await readsOver(store, exchange)
    await reads.start()
    const last = Promise.withResolvers<void>()
    const link = scriptedLink(async chunk => {
      if (chunk === 2) await last.promise
      return chunks[chunk]!
    })
    connect(link)
    try {
      const opening = reads.open(request())
      while (reads.active === 0) await new Promise(setImmediate)
      say({ type: 'neighbours', blob: digest, peers: [] })
      say({ type: 'verified', blob: digest, hashes: Buffer.concat(hashes) })
      link.say(interest(hashes))
      while ((store.info(digest)?.heldChunks ?? 0) < chunks.length - 1) await new Promise(setImmediate)
      say({ type: 'verified', blob: digest, hashes: new Uint8Array(0) })
      last.resolve()
      assert.ok((await bytesOf(await opening)).equals(bytes))
      assert.equal(told.filter(message => message.type === 'vouch').length, 1)
    } finally {
      await reads.stop(AbortSignal.timeout(1000))
      await store.close()
    }
  })

  it('tells a neighbour that spoke first that it takes part too', async () => {
    const store = createMemoryStore({ quotaBytes: 1e9, clock: systemClock })
    const { exchange, connect } = scriptedExchange()
    const reads = await readsOver(store, exchange)
    await reads.start()
    const link = scriptedLink(() => new Promise(() => {}))
    connect(link)
    const gone = new AbortController()
    const opening = reads.open(requestOf(gone.signal))
    const failed = assert.rejects(opening)
    while (reads.active === 0) await new Promise(setImmediate)
    link.say(interestOf([], []))
    assert.equal(link.sent.filter(({ type }) => type === 'interest').length, 1)
    gone.abort(new Error('gone'))
    await failed
    await reads.stop(AbortSignal.timeout(1000))
    await store.close()
  })

  it('goes on making a link when the blob that it was for is done', async () => {
    const store = createMemoryStore({ quotaBytes: 1e9, clock: systemClock })
    const { exchange } = scriptedExchange()
    const asked = Promise.withResolvers<AbortSignal>()
    const link: Exchange['link'] = (_peer, { signal }) => {
      asked.resolve(signal)
      return new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason))
      })
    }
    const neighbourhood = neighbourhoodOver(store, { onLink: exchange.onLink, link })
    const done = new AbortController()
    const peer = { id: 'neighbour', addresses: [], zone: '' }
    const connecting = neighbourhood.connect(peer, done.signal)
    const attempt = await asked.promise
    done.abort(new Error('the blob is done'))
    await assert.rejects(connecting, /the blob is done/)
    assert.equal(attempt.aborted, false)
    neighbourhood.close()
    assert.equal(attempt.aborted, true)
    await store.close()
  })

  it('outlives a store that cannot be read when a neighbour asks', async () => {
    const store = createMemoryStore({ quotaBytes: 1e9, clock: systemClock })
    const broken = new Proxy(store, {
      get: (target, name) => {
        if (name === 'find')
          return async () => Promise.reject(new StoreIoError('find the blob', new Error('EIO')))
        return Reflect.get(target, name, target)
      },
    })
    const { exchange, connect } = scriptedExchange()
    const neighbourhood = neighbourhoodOver(broken, exchange)
    const link = scriptedLink(() => assert.fail('nothing is asked for'))
    connect(link)
    link.say(interestOf([], []))
    await new Promise(setImmediate)
    assert.equal(await neighbourhood.serve(digest, 0, link.peerId, AbortSignal.timeout(1000)), 'missing')
    await new Promise(setImmediate)
    neighbourhood.close()
    await store.close()
  })

  it('sends a chunk to its end though the blob is closed meanwhile, and lets go of it then', async () => {
    const store = createMemoryStore({ quotaBytes: 1e9, clock: systemClock })
    const stored = await store.open(digest, BLOB.length)
    await stored.writeChunk(0, chunkOf(0), sha256(chunkOf(0)))
    stored.release()
    const { exchange, connect } = scriptedExchange()
    const neighbourhood = neighbourhoodOver(store, exchange)
    const link = scriptedLink(() => assert.fail('nothing is asked for'))
    connect(link)
    link.say(interestOf([], []))
    while (!link.sent.some(({ type }) => type === 'slot')) await new Promise(setImmediate)
    const served = await neighbourhood.serve(digest, 0, link.peerId, AbortSignal.timeout(1000))
    assert.ok(typeof served !== 'string')
    neighbourhood.blobRemoved(digest)
    await new Promise(setImmediate)
    assert.equal(await served.read(0, new Uint8Array(10)), 10)
    served.release(true)
    await new Promise(setImmediate)
    assert.equal(await store.remove(digest), true)
    await store.close()
  })
})
