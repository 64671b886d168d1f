import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { LeaseBook, runBorder } from '../src/index.ts'
import { IndexSet } from '../src/index-set.ts'
import { LeaseSeekers } from '../src/lease-seekers.ts'
import { RandomSet } from '../src/random-set.ts'
import { seeded } from './seeded.ts'

describe('index set', () => {
  it('behaves like a set of numbers that is searched in order', () => {
    const steps = fc.array(fc.tuple(fc.boolean(), fc.nat(5_000)), { maxLength: 200 })
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 5_000 }), steps, (length, changes) => {
        const set = new IndexSet(length)
        const model = new Set<number>()
        for (const [add, index] of changes) {
          if (add) {
            assert.equal(set.add(index), index < length && !model.has(index))
            if (index < length) model.add(index)
          } else {
            assert.equal(set.delete(index), model.delete(index))
          }
          const after = [...model].filter(member => member >= index).toSorted((a, b) => a - b)
          assert.equal(set.next(index), after[0])
          assert.equal(set.size, model.size)
        }
      }),
      { seed: 1 },
    )
  })
})

describe('random set', () => {
  it('behaves like a set, and picks every member but the one that is left out', () => {
    const random = seeded(1)
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.boolean(), fc.nat(9)), { maxLength: 60 }), changes => {
        const set = new RandomSet<number>()
        const model = new Set<number>()
        for (const [add, item] of changes) {
          if (add) assert.equal(set.add(item), !model.has(item) && model.add(item).has(item))
          else assert.equal(set.delete(item), model.delete(item))
          assert.deepEqual(new Set(set), model)
          const others = new Set(Array.from({ length: 100 }, () => set.pickOther(item, random)))
          model.delete(item)
          if (model.size > 0) assert.deepEqual(others, model)
          else assert.deepEqual([...others], [undefined])
          if (set.has(item)) model.add(item)
        }
      }),
      { seed: 2 },
    )
  })
})

describe('run borders', () => {
  it('cut the first run into ever longer ones, whoever asks', () => {
    const starts: number[] = []
    for (let at = 0; at < 64; at = runBorder(16, at)) starts.push(at)
    assert.deepEqual(starts, [0, 2, 4, 8, 16, 32, 48])
    assert.equal(runBorder(16, 5), 8)
    assert.equal(runBorder(16, 17), 32)
    assert.equal(runBorder(1, 0), 1)
    assert.equal(runBorder(5, 4), 5)
  })
})

describe('lease book', () => {
  it('never has a chunk under two leases nor leases one that is held, and leases all of them in the end', () => {
    const step = fc.record({
      what: fc.constantFrom('grant', 'grant', 'end', 'held', 'lost', 'lapse', 'leave'),
      peer: fc.constantFrom('a', 'b', 'c'),
      at: fc.nat(99),
    })
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 100 }),
        fc.integer({ min: 1, max: 16 }),
        fc.array(step, { maxLength: 150 }),
        (count, longest, steps) => {
          const book = new LeaseBook(count, longest, { firstByteMs: 50, progressMs: 20, longestMs: 100 })
          const owners = Array.from<string | undefined>({ length: count })
          const holders = Array.from({ length: count }, () => 0)
          const leases = new Map<number, { peer: string; from: number; to: number }>()
          const over = (lease: { id: number; from: number; to: number }): void => {
            assert.ok(leases.delete(lease.id))
            owners.fill(undefined, lease.from, lease.to)
          }
          let now = 0
          const grant = (peer: string, from: number): boolean => {
            const lease = book.grant(peer, from, now)
            if (lease === undefined) return false
            assert.ok(lease.to > lease.from && lease.to - lease.from <= longest)
            for (let chunk = lease.from; chunk < lease.to; chunk++) {
              assert.equal(owners[chunk], undefined)
              assert.equal(holders[chunk], 0)
              owners[chunk] = peer
            }
            leases.set(lease.id, lease)
            return true
          }
          for (const { what, peer, at } of steps) {
            now += 10
            const chunk = at % count
            if (what === 'grant') grant(peer, chunk)
            else if (what === 'held') {
              holders[chunk]!++
              book.held(chunk)
            } else if (what === 'lost' && holders[chunk]! > 0) {
              holders[chunk]!--
              book.lost(chunk)
            } else if (what === 'lapse') for (const lease of book.lapse(now)) over(lease)
            else if (what === 'leave') for (const lease of book.endAllOf(peer)) over(lease)
            else if (what === 'end') {
              const [id] = [...leases.keys()]
              if (id === undefined) continue
              const ended = book.end(id, peer)
              assert.equal(ended !== undefined, leases.get(id)!.peer === peer, 'only its own')
              if (ended !== undefined) over(ended)
            }
            assert.equal(book.size, leases.size)
            for (const name of ['a', 'b', 'c']) {
              const own = [...leases.values()].filter(lease => lease.peer === name)
              assert.equal(book.countOf(name), own.length)
            }
            owners.forEach((owner, index) => assert.equal(book.lesseeOf(index), owner))
          }
          while (grant('a', 0)) assert.ok(leases.size <= count)
          owners.forEach((owner, index) => assert.ok(owner !== undefined || holders[index]! > 0))
        },
      ),
      { seed: 3 },
    )
  })

  it('lets a lease lapse that makes no progress, and waits longer where origins are slow to begin', () => {
    const book = new LeaseBook(4, 4, { firstByteMs: 100, progressMs: 10, longestMs: 150 })
    const lease = book.grant('a', 0, 0)!
    assert.equal(book.lapse(99).length, 0)
    book.alive(lease.id, 'b', 99)
    book.alive(lease.id, 'a', 99)
    assert.equal(book.lapse(108).length, 0)
    assert.equal(book.lapse(109).length, 1)
    assert.equal(book.size, 0)
    assert.equal(book.grant('a', 0, 0)!.deadline, 100)
    book.lapse(100)
    assert.equal(book.grant('a', 0, 0)!.deadline, 150)
  })

  it('leases the blob as a whole once its origin ignores ranges', () => {
    const book = new LeaseBook(40, 4)
    book.leaseWhole()
    assert.deepEqual(
      [book.grant('a', 0, 0)!].map(({ from, to }) => [from, to]),
      [[0, 40]],
    )
  })
})

describe('the forecast of a lease’s end', () => {
  const FIRST_MS = 100
  const GAP_MS = 10

  /** A book of leases of 8 chunks, that has seen some to their end: the word of the first chunk takes 100 ms, each other 10 ms. */
  function practised(): LeaseBook {
    const book = new LeaseBook(160, 8)
    for (let round = 0; round < 10; round++) readWhole(book, round * 1_000)
    return book
  }

  function readWhole(book: LeaseBook, grantedAt: number): void {
    const lease = book.grant('a', 0, grantedAt)!
    for (let chunk = lease.from; chunk < lease.to; chunk++) {
      const now = grantedAt + FIRST_MS + (chunk - lease.from) * GAP_MS
      assert.equal(book.told('a', [chunk], now), 1)
      book.held(chunk)
    }
    book.end(lease.id, 'a')
  }

  it('says nothing before it has seen one at work', () => {
    const book = new LeaseBook(8, 8)
    book.grant('a', 0, 0)
    assert.equal(book.foresee(8, 900), 0)
    assert.equal(book.working, 1)
  })

  it('lets the next one begin so early that its first chunk comes right behind the last one of this', () => {
    const book = practised()
    const lease = book.grant('a', 0, 20_000)!
    const lastAt = 20_000 + FIRST_MS + (lease.to - lease.from - 1) * GAP_MS
    assert.equal(book.foresee(8, lastAt + GAP_MS - FIRST_MS - 1), 0)
    assert.equal(book.foresee(8, lastAt + GAP_MS - FIRST_MS), 1)
    assert.deepEqual([book.size, book.working], [1, 0])
    assert.equal(book.foresee(8, lastAt), 0, 'not twice')
  })

  it('waits for a lease whose chunks come late', () => {
    const book = practised()
    const lease = book.grant('a', 0, 20_000)!
    book.told('a', [lease.from], 20_500)
    const left = lease.to - lease.from - 1
    // The late one moved what is expected of others by a fifth; they vary so much now that the next one begins as much earlier.
    const firstMs = FIRST_MS + (500 - FIRST_MS) / 5
    assert.equal(book.foresee(8, 20_500 + (left + 1) * GAP_MS - 2 * firstMs - 1), 0)
    assert.equal(book.foresee(8, 20_500 + (left + 1) * GAP_MS - 2 * firstMs), 1)
  })

  it('lets the next one begin earlier where first chunks are early or late, by four mean deviations', () => {
    const book = practised()
    // 2 ms early and late in turn: a mean deviation of 2 ms in the end.
    for (let round = 10; round < 50; round++) {
      const lease = book.grant('a', 0, round * 1_000)!
      book.told('a', [lease.from], round * 1_000 + FIRST_MS + (round % 2 === 0 ? 2 : -2))
      book.end(lease.id, 'a')
    }
    const lease = book.grant('a', 0, 90_000)!
    const endsAt = 90_000 + FIRST_MS + (lease.to - lease.from) * GAP_MS
    assert.equal(book.foresee(8, endsAt - FIRST_MS - 8 - 2), 0)
    assert.equal(book.foresee(8, endsAt - FIRST_MS - 8 + 2), 1)
  })

  it('goes no further ahead than it is asked to', () => {
    const book = practised()
    for (let i = 0; i < 4; i++) book.grant('b', 0, 20_000)
    assert.equal(book.foresee(3, 21_000), 3)
    assert.equal(book.working, 1)
  })

  it('counts a lease no more than once, however it ends', () => {
    const book = practised()
    const lease = book.grant('b', 0, 20_000)!
    book.grant('b', 0, 20_000)
    assert.equal(book.foresee(8, 20_900), 2)
    book.end(lease.id, 'b')
    assert.deepEqual([book.size, book.working], [1, 0])
    assert.equal(book.lapse(30_000).length, 1)
    assert.deepEqual([book.size, book.working], [0, 0])
  })

  it('learns nothing from chunks that somebody else brings', () => {
    const book = new LeaseBook(8, 8)
    book.grant('a', 0, 0)
    assert.equal(book.told('b', [0, 1], 5), 0)
  })
})

describe('lease seekers', () => {
  it('takes the zone with the fewest so far, there one with the fewest now', () => {
    const seekers = new LeaseSeekers(seeded(4))
    for (const [peer, zone] of [
      ['a1', 'a'],
      ['a2', 'a'],
      ['b1', 'b'],
    ] as const)
      seekers.add(peer, zone, 0)
    const counts = new Map<string, number>()
    for (let i = 0; i < 30; i++) {
      const peer = seekers.next(100)!
      const count = (counts.get(peer) ?? 0) + 1
      counts.set(peer, count)
      seekers.granted(peer[0]!)
      seekers.add(peer, peer[0]!, count)
    }
    assert.equal(counts.get('b1'), 15)
    assert.ok(Math.abs(counts.get('a1')! - counts.get('a2')!) <= 1)
    assert.equal(seekers.next(1), undefined, 'all have more than that')
    for (const peer of ['a1', 'a2', 'b1']) seekers.remove(peer)
    assert.equal(seekers.size, 0)
    assert.equal(seekers.next(100), undefined)
  })
})
