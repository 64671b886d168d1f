import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { parseDigest } from '@darter/oci'
import { Bitfield, chunkLayout, MIN_CHUNK_BYTES } from '@darter/swarm'
import { SwarmDirectory } from '../src/directory.ts'

const blob = parseDigest(`sha256:${'ab'.repeat(32)}`)
const size = MIN_CHUNK_BYTES * 40
const { count } = chunkLayout(size)
const none = new Bitfield(count).toBytes()
const all = Bitfield.full(count).toBytes()

function directoryWith(...ids: string[]): SwarmDirectory {
  const directory = new SwarmDirectory({ random: () => 0.5 })
  for (const id of ids) directory.peerJoined({ id, addresses: [], zone: '' })
  return directory
}

describe('the swarm directory', () => {
  it('answers every peer that joins, even one that is alone', () => {
    const out = directoryWith('a').receive('a', { type: 'join', blob, size, held: none, wants: true }, 0)
    assert.deepEqual(out, [{ to: 'a', message: { type: 'neighbours', blob, peers: [] } }])
  })

  it('leases each chunk of a cold blob to one peer', () => {
    const directory = directoryWith('a', 'b')
    const leased: number[] = []
    for (const id of ['a', 'b'])
      directory.receive(id, { type: 'join', blob, size, held: none, wants: true }, 0)
    const todo = ['a', 'b'].flatMap(id =>
      directory.receive(id, { type: 'lease-demand', blob, slots: 4, from: 0 }, 0),
    )
    for (let next = todo.shift(); next !== undefined; next = todo.shift()) {
      const { to, message } = next
      if (message.type !== 'lease') continue
      const chunks = Array.from({ length: message.to - message.from }, (_, i) => message.from + i)
      leased.push(...chunks)
      todo.push(
        ...directory.receive(to, { type: 'held', blob, chunks }, 1),
        ...directory.receive(to, { type: 'lease-end', blob, lease: message.lease, outcome: 'done' }, 1),
        ...directory.receive(to, { type: 'lease-demand', blob, slots: 4, from: 0 }, 1),
      )
    }
    assert.equal(new Set(leased).size, leased.length)
    assert.equal(leased.length, count)
  })

  it('gives no lease for other blobs of an upstream that asked to wait', () => {
    const directory = directoryWith('a', 'b')
    const other = parseDigest(`sha256:${'cd'.repeat(32)}`)
    const elsewhere = parseDigest(`sha256:${'ef'.repeat(32)}`)
    const upstream = '0123456789abcdef'
    const join = { type: 'join', size, held: none, wants: true } as const
    const demand = { type: 'lease-demand', slots: 1, from: 0 } as const
    directory.receive('a', { ...join, blob, upstream }, 0)
    for (const { message } of directory.receive('a', { ...demand, blob }, 0)) {
      assert.ok(message.type === 'lease')
      const { lease } = message
      directory.receive('a', { type: 'lease-end', blob, lease, outcome: 'failed', retryAfterMs: 5_000 }, 1)
    }
    directory.receive('b', { ...join, blob: other, upstream }, 2)
    assert.deepEqual(directory.receive('b', { ...demand, blob: other }, 3), [])
    directory.receive('b', { ...join, blob: elsewhere, upstream: 'f'.repeat(16) }, 4)
    assert.equal(directory.receive('b', { ...demand, blob: elsewhere }, 5).length, 1)
    const later = directory.tick(5_001)
    assert.ok(
      later.some(({ to, message }) => to === 'b' && message.type === 'lease' && message.blob === other),
    )
  })

  it('gives the lease of a peer that leaves or stalls to another', () => {
    const directory = directoryWith('a', 'b')
    directory.receive('a', { type: 'join', blob, size, held: none, wants: true }, 0)
    const first = directory.receive('a', { type: 'lease-demand', blob, slots: 1, from: 0 }, 0)
    assert.equal(first[0]?.message.type, 'lease')
    directory.receive('b', { type: 'join', blob, size, held: none, wants: true }, 0)
    const second = directory.receive('b', { type: 'lease-demand', blob, slots: 1, from: 0 }, 0)
    for (const { message } of second) {
      if (message.type === 'lease')
        directory.receive('b', { type: 'lease-end', blob, lease: message.lease, outcome: 'released' }, 1)
    }
    directory.receive('b', { type: 'lease-demand', blob, slots: 0, from: 0 }, 1)
    const lapsed = directory.tick(10_000)
    assert.ok(lapsed.some(({ to, message }) => to === 'a' && message.type === 'lease-void'))
    const out = directory.receive('b', { type: 'lease-demand', blob, slots: 1, from: 0 }, 10_001)
    assert.ok(out.some(({ to, message }) => to === 'b' && message.type === 'lease' && message.from === 0))
  })

  it('lets chunks be leased again when their only holder is blamed for wrong bytes', () => {
    const directory = directoryWith('liar', 'b')
    directory.receive('liar', { type: 'join', blob, size, held: all, wants: false }, 0)
    directory.receive('b', { type: 'join', blob, size, held: none, wants: true }, 0)
    assert.deepEqual(directory.receive('b', { type: 'lease-demand', blob, slots: 4, from: 0 }, 0), [])
    const out = directory.receive('b', { type: 'blame', peer: 'liar', blob, deed: 'wrong-bytes' }, 1)
    assert.ok(out.some(({ to, message }) => to === 'b' && message.type === 'lease'))
    assert.ok(
      out.some(
        ({ to, message }) => to === 'b' && message.type === 'neighbours' && message.peers.length === 0,
      ),
    )
  })

  it('gives up chunk lists that contradict each other', () => {
    const directory = directoryWith('a', 'b', 'c')
    for (const id of ['a', 'b', 'c'])
      directory.receive(id, { type: 'join', blob, size, held: none, wants: true }, 0)
    const list = (fill: number): Uint8Array => new Uint8Array(count * 32).fill(fill)
    const first = directory.receive('a', { type: 'vouch', blob, size, hashes: list(1) }, 0)
    assert.ok(
      first.some(({ to, message }) => to === 'c' && message.type === 'verified' && message.hashes.length > 0),
    )
    const second = directory.receive('b', { type: 'vouch', blob, size, hashes: list(2) }, 0)
    assert.ok(
      second.some(
        ({ to, message }) => to === 'c' && message.type === 'verified' && message.hashes.length === 0,
      ),
    )
  })

  it('forgets a blob when nobody takes part any more', () => {
    const directory = directoryWith('a')
    directory.receive('a', { type: 'join', blob, size, held: all, wants: false }, 0)
    assert.equal(directory.blobs, 1)
    directory.peerLeft('a', 1)
    assert.equal(directory.blobs, 0)
  })

  it('tells the verified list to a peer that held a part and now wants the rest', () => {
    const directory = directoryWith('a', 'b')
    const hashes = new Uint8Array(count * 32)
    directory.receive('a', { type: 'join', blob, size, held: all, wants: false }, 0)
    directory.receive('b', { type: 'join', blob, size, held: none, wants: false }, 0)
    directory.receive('a', { type: 'vouch', blob, size, hashes }, 0)
    const out = directory.receive('b', { type: 'join', blob, size, held: none, wants: true }, 1)
    assert.ok(out.some(({ to, message }) => to === 'b' && message.type === 'verified'))
  })
})
