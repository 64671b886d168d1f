import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { type Digest, parseDigest } from '@darter/oci'
import { Bitfield, chunkLayout, MIN_CHUNK_BYTES } from '@darter/swarm'
import { type Outgoing, SwarmDirectory } from '../src/directory.ts'

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

  describe('with seeds', () => {
    const place = { upstream: 'docker.io', repository: 'library/app', kind: 'blob' } as const
    const join = { type: 'join', size, held: none, wants: true, place } as const
    const digest = (i: number) => parseDigest(`sha256:${i.toString(16).padStart(64, '0')}`)

    function withSeeds(...seeds: string[]): SwarmDirectory {
      const directory = directoryWith('a', 'b')
      for (const id of seeds) directory.peerJoined({ id, addresses: [], zone: '' }, true)
      return directory
    }

    /** A peer wants all of a cold blob. */
    const want = (directory: SwarmDirectory, id: string, of: Digest, now: number): Outgoing[] => [
      ...directory.receive(id, { ...join, blob: of }, now),
      ...directory.receive(id, { type: 'lease-demand', blob: of, slots: 4, from: 0 }, now),
    ]

    /** The seeds that are asked for a blob by these messages. */
    const asked = (out: readonly Outgoing[]): string[] =>
      out.flatMap(({ to, message }) => (message.type === 'seed' ? [to] : []))

    it('asks one seed for each cold blob, once, and shares blobs among them', () => {
      const directory = withSeeds('s1', 's2', 's3')
      const shares = new Map<string, number>()
      for (let i = 0; i < 60; i++) {
        const [seed, ...more] = asked(want(directory, 'a', digest(i), 0))
        assert.ok(seed !== undefined && more.length === 0)
        assert.deepEqual(asked(want(directory, 'b', digest(i), 1)), [])
        shares.set(seed, (shares.get(seed) ?? 0) + 1)
      }
      for (const seed of ['s1', 's2', 's3']) assert.ok(shares.get(seed)! > 5, `${seed}: ${shares.get(seed)}`)
    })

    it('asks none for what is held, comes from nowhere, or is wanted by a seed', () => {
      const directory = withSeeds('s1')
      directory.receive('b', { type: 'join', blob, size, held: all, wants: false }, 0)
      assert.deepEqual(asked(want(directory, 'a', blob, 0)), [])
      const { place: _, ...nowhere } = join
      assert.deepEqual(asked(directory.receive('a', { ...nowhere, blob: digest(1) }, 0)), [])
      assert.deepEqual(asked(want(directory, 's1', digest(2), 0)), [])
    })

    it('asks the next one when a seed is lost, and the rest stay where they are', () => {
      const directory = withSeeds('s1', 's2', 's3')
      const first = new Map(
        Array.from({ length: 30 }, (_, i) => [digest(i), asked(want(directory, 'a', digest(i), 0))[0]]),
      )
      const again = directory.peerLeft('s2', 1)
      const moved = again.flatMap(({ message }) => (message.type === 'seed' ? [message.blob] : []))
      assert.deepEqual(
        new Set(moved),
        new Set([...first].flatMap(([blob, seed]) => (seed === 's2' ? [blob] : []))),
      )
      assert.ok(asked(again).every(seed => seed === 's1' || seed === 's3'))
      assert.equal(asked(directory.peerLeft('s1', 2)).filter(seed => seed !== 's3').length, 0)
      assert.deepEqual(asked(directory.peerLeft('s3', 3)), [])
    })

    it('leaves a blob to the others when its seed declines, and lets a seed that failed rest', () => {
      const directory = withSeeds('s1', 's2')
      const [seed] = asked(want(directory, 'a', blob, 0))
      directory.receive('a', { type: 'lease-demand', blob, slots: 4, from: 0 }, 1)
      const other = seed === 's1' ? 's2' : 's1'
      assert.deepEqual(directory.receive(other, { type: 'seed-end', blob, reason: 'failed' }, 2), [])
      const out = directory.receive(seed!, { type: 'seed-end', blob, reason: 'failed' }, 3)
      assert.deepEqual(asked(out), [])
      assert.ok(out.some(({ to, message }) => to === 'a' && message.type === 'lease'))
      for (let i = 0; i < 10; i++) {
        assert.deepEqual(asked(want(directory, 'a', digest(i), 4)), [other])
      }
      const later = Array.from({ length: 10 }, (_, i) => asked(want(directory, 'a', digest(100 + i), 40_000)))
      assert.ok(later.flat().includes(seed!))
    })

    describe('and readers of ranges', () => {
      const lazy = { type: 'lease-demand', blob, slots: 0, from: 0 } as const
      const background = { type: 'lease-demand', blob, slots: 1, from: 3, background: true } as const
      const calls = (out: readonly Outgoing[]) =>
        out.flatMap(({ message }) => (message.type === 'seed' ? [message.background === true] : []))

      it('asks one in the background once they have read for a while, and hurries it when someone waits', () => {
        const directory = withSeeds('s1', 's2')
        const early = [
          ...directory.receive('a', { ...join, blob }, 0),
          ...directory.receive('a', lazy, 0),
          ...directory.receive('a', background, 100),
          ...directory.tick(4_900),
        ]
        assert.deepEqual(calls(early), [])
        const late = directory.tick(5_000)
        assert.deepEqual(calls(late), [true])
        assert.deepEqual(calls(directory.tick(9_000)), [])
        const hurried = want(directory, 'b', blob, 9_100)
        assert.deepEqual(calls(hurried), [false])
        assert.deepEqual(asked(hurried), asked(late))
        assert.ok(!hurried.some(({ message }) => message.type === 'lease'))
        assert.deepEqual(calls(want(directory, 'a', blob, 9_200)), [])
      })

      it('asks one at once when many read, and none when all have left', () => {
        const directory = withSeeds('s1')
        for (let i = 0; i < 7; i++) {
          directory.peerJoined({ id: `p${i}`, addresses: [], zone: '' })
          assert.deepEqual(calls(directory.receive(`p${i}`, { ...join, blob }, 0)), [])
        }
        assert.deepEqual(calls(directory.receive('a', { ...join, blob }, 1)), [false])

        const other = digest(1)
        directory.receive('a', { ...join, blob: other }, 0)
        directory.receive('a', { type: 'leave', blob: other }, 1)
        assert.deepEqual(calls(directory.tick(60_000)), [])
      })

      it('asks the next one when the seed is lost', () => {
        const directory = withSeeds('s1', 's2')
        directory.receive('a', { ...join, blob }, 0)
        const [first] = asked(directory.tick(5_000))
        assert.ok(first !== undefined)
        const next = directory.peerLeft(first, 5_100)
        assert.deepEqual(calls(next), [true])
        assert.deepEqual(asked(next), [first === 's1' ? 's2' : 's1'])
      })
    })
  })
})
