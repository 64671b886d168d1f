import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import {
  type Allowance,
  Bitfield,
  chunkLayout,
  DEFAULT_SESSION_LIMITS,
  DownloadSession,
  MIN_CHUNK_BYTES,
  ReadAhead,
  type SessionEffect,
} from '../src/index.ts'

const layout = chunkLayout(MIN_CHUNK_BYTES * 64)
const hash = new Uint8Array(32).fill(7)
const list = Array<Uint8Array>(layout.count).fill(hash)
const NEIGHBOURS = ['a', 'b', 'c']

interface Bench {
  readonly session: DownloadSession
  readonly held: Bitfield
  /** What neighbours are asked for now: `<neighbour> <chunk>`. */
  readonly asked: Set<string>
  readonly reads: Set<number>
  /** Follows what the session decides; returns it. */
  follow(): SessionEffect[]
  keep(neighbour: string, chunk: number, now: number): void
}

/** A session whose scheduler has answered, with neighbours that hold everything. */
function bench(options: {
  readonly withList: boolean
  readonly allowance?: Allowance
  readonly isComing?: (chunk: number) => boolean
}): Bench {
  const held = new Bitfield(layout.count)
  const session = new DownloadSession({
    layout,
    held,
    trusted: new Bitfield(layout.count),
    random: () => 0.5,
    now: 0,
    schedulerUp: true,
    ...(options.allowance !== undefined && { allowance: options.allowance }),
    ...(options.isComing !== undefined && { isComing: options.isComing }),
  })
  session.schedulerAnswered(0)
  if (options.withList) session.verifiedList(list, () => undefined)
  for (const id of NEIGHBOURS) {
    session.neighbourUp(id)
    for (let chunk = 0; chunk < layout.count; chunk++) session.neighbourHas(id, chunk, hash)
  }
  const asked = new Set<string>()
  const reads = new Set<number>()
  return {
    session,
    held,
    asked,
    reads,
    follow: () => {
      const effects = session.takeEffects()
      for (const effect of effects) {
        if (effect.type === 'request') asked.add(`${effect.neighbour} ${effect.chunk}`)
        if (effect.type === 'cancel') asked.delete(`${effect.neighbour} ${effect.chunk}`)
        if (effect.type === 'fetch-origin') reads.add(effect.fetch)
        if (effect.type === 'stop-origin') reads.delete(effect.fetch)
      }
      return effects
    },
    keep: (neighbour, chunk, now) => {
      asked.delete(`${neighbour} ${chunk}`)
      if (session.chunkFromNeighbour(neighbour, chunk, hash, now) !== 'keep') return
      held.set(chunk)
      session.chunkStored(chunk, { kind: 'neighbour', id: neighbour }, now)
    },
  }
}

type Deed =
  | { readonly kind: 'add'; readonly from: number; readonly length: number; readonly ahead: number }
  | { readonly kind: 'gone'; readonly which: number; readonly aborted: boolean }
  | { readonly kind: 'move'; readonly which: number; readonly by: number }
  | { readonly kind: 'slot'; readonly neighbour: string; readonly chunk: number }
  | { readonly kind: 'arrive'; readonly which: number }
  | { readonly kind: 'tick' }

const chunk = fc.nat(layout.count - 1)
const deed: fc.Arbitrary<Deed> = fc.oneof(
  fc.record({
    kind: fc.constant('add' as const),
    from: chunk,
    length: fc.integer({ min: 1, max: 9 }),
    ahead: fc.nat(3),
  }),
  fc.record({ kind: fc.constant('gone' as const), which: fc.nat(9), aborted: fc.boolean() }),
  fc.record({ kind: fc.constant('move' as const), which: fc.nat(9), by: fc.nat(3) }),
  fc.record({ kind: fc.constant('slot' as const), neighbour: fc.constantFrom(...NEIGHBOURS), chunk }),
  fc.record({ kind: fc.constant('arrive' as const), which: fc.nat(9) }),
  fc.constant({ kind: 'tick' as const }),
)

describe('what readers of ranges want', () => {
  it('is all that is asked for, and nothing is left of it when they have hung up', () => {
    fc.assert(
      fc.property(fc.boolean(), fc.array(deed, { maxLength: 60 }), (withList, deeds) => {
        const at = bench({ withList })
        const readers = new Map<number, { position: number; readonly end: number; readonly ahead: number }>()
        /** What was read to its end may have something after it that is read ahead. */
        const ahead = new Set<number>()
        let now = 0
        let id = 0
        for (const each of deeds) {
          now += 50
          const reader = [...readers.keys()][('which' in each ? each.which : 0) % Math.max(1, readers.size)]
          if (each.kind === 'add') {
            const end = Math.min(layout.count, each.from + each.length)
            const to = Math.min(layout.count, end + each.ahead)
            readers.set(++id, { position: each.from, end, ahead: to })
            at.session.readerAdded(id, each.from, end, true, now, to)
          } else if (each.kind === 'gone' && reader !== undefined) {
            const { end, ahead: to } = readers.get(reader)!
            if (!each.aborted) for (let i = end; i < to; i++) ahead.add(i)
            readers.delete(reader)
            at.session.readerGone(reader, each.aborted)
          } else if (each.kind === 'move' && reader !== undefined) {
            const entry = readers.get(reader)!
            entry.position = Math.min(entry.end, entry.position + each.by)
            at.session.readerMoved(reader, entry.position, now)
          } else if (each.kind === 'slot') {
            at.session.slotOffered(each.neighbour, each.chunk, now)
          } else if (each.kind === 'arrive') {
            const [neighbour, which] =
              [...at.asked][each.which % Math.max(1, at.asked.size)]?.split(' ') ?? []
            if (neighbour !== undefined) at.keep(neighbour, Number(which), now)
          } else if (each.kind === 'tick') {
            at.session.tick(now)
          }
          for (const effect of at.follow()) {
            assert.notEqual(effect.type, 'fetch-origin')
            assert.notEqual(effect.type, 'give-up')
            if (effect.type === 'lease-demand') assert.equal(effect.slots, 0)
            if (effect.type !== 'request') continue
            assert.ok(withList, 'nobody would believe it')
            const isWanted = [...readers.values()].some(
              ({ position, ahead: to }) => effect.chunk >= position && effect.chunk < to,
            )
            assert.ok(isWanted || ahead.has(effect.chunk), `nobody wants chunk ${effect.chunk}`)
          }
        }
        for (const reader of readers.keys()) at.session.readerGone(reader, true)
        at.follow()
        for (const request of at.asked) {
          assert.ok(ahead.has(Number(request.split(' ')[1])), `${request} is still on its way`)
        }
      }),
      { seed: 5, numRuns: 300 },
    )
  })

  it('comes from the origin when no neighbour can give it, is believed, or does so in time', () => {
    const limits = DEFAULT_SESSION_LIMITS
    const blind = bench({ withList: false }).session
    assert.ok(blind.onlyOriginServes(3, 0, 0), 'there is no list')
    const { session } = bench({ withList: true })
    assert.ok(!session.onlyOriginServes(3, 0, 0), 'neighbours have it')
    assert.ok(session.onlyOriginServes(3, limits.hedgeAfterMs, 0), 'it takes too long')
    for (const id of NEIGHBOURS) session.neighbourDown(id, undefined, 0)
    assert.ok(session.onlyOriginServes(3, 0, 0), 'nobody has it')
    session.schedulerAnswered(0, 2)
    session.neighbourUp('late')
    assert.ok(!session.onlyOriginServes(3, 0, 0), 'somebody may have it')
    assert.ok(session.onlyOriginServes(3, 0, limits.introductionMs), 'nobody said so')
    session.schedulerChanged(true, 0)
    assert.ok(!session.onlyOriginServes(3, 0, 0), 'the scheduler may know who has it')
    assert.ok(session.onlyOriginServes(3, 0, limits.schedulerPatienceMs), 'it does not answer')
  })

  it('does not stop what is wanted for its own sake, until that is not wanted either', () => {
    const at = bench({ withList: true })
    at.session.readerAdded(1, 0, layout.count, false, 0)
    at.session.leased(1, 40, 42, 0)
    at.session.readerAdded(2, 3, 5, true, 0)
    at.session.setAppetite('everything', 0)
    at.session.readerGone(1, true)
    at.session.readerGone(2, true)
    at.follow()
    assert.equal(at.reads.size, 1)
    assert.ok(at.asked.size > 0)
    at.session.setAppetite('nothing', 10)
    const ended = at.follow().flatMap(effect => (effect.type === 'lease-end' ? [effect.outcome] : []))
    assert.deepEqual(ended, ['released'])
    assert.deepEqual([at.reads.size, at.asked.size], [0, 0])
  })
})

describe('what is fetched in the background', () => {
  it('goes as far as the allowance, and never gives up', () => {
    let left = 3
    const allowance: Allowance = { has: () => left > 0, take: () => left-- > 0 }
    const at = bench({ withList: true, allowance })
    at.session.setAppetite('background', 0)
    for (const neighbour of [...NEIGHBOURS, ...NEIGHBOURS]) at.session.slotOffered(neighbour, 9, 0)
    at.follow()
    assert.equal(at.asked.size, 3)
    for (let now = 0; now <= 120_000; now += 100) at.session.tick(now)
    const types = new Set(at.follow().map(({ type }) => type))
    assert.ok(!types.has('give-up') && !types.has('fetch-origin'))
    left = 1
    const [first] = at.asked
    const [neighbour, which] = first!.split(' ')
    at.keep(neighbour!, Number(which), 120_000)
    at.session.tick(120_100)
    assert.ok(
      at.follow().some(({ type }) => type === 'want'),
      'neighbours are told that their slots are of use again',
    )
  })

  it('asks for what was named first, of the scheduler, of neighbours, and of the origin when there is nobody else', () => {
    const at = bench({ withList: true })
    at.session.wantFirst({ from: 40, to: 42 }, 0)
    at.session.setAppetite('background', 0)
    at.session.wantFirst({ from: 20, to: 21 }, 0)
    const demands = at.follow().filter(effect => effect.type === 'lease-demand' && effect.slots > 0)
    assert.deepEqual([...new Set(demands.map(effect => effect.type === 'lease-demand' && effect.from))], [40])
    assert(demands.every(effect => effect.type === 'lease-demand' && effect.background === true))
    for (const neighbour of [...NEIGHBOURS, ...NEIGHBOURS]) at.session.slotOffered(neighbour, 9, 0)
    at.follow()
    const order = [...at.asked].map(text => Number(text.split(' ')[1]))
    assert.deepEqual(order.slice(0, 4), [40, 41, 20, 9])

    const alone = bench({ withList: false })
    for (const neighbour of NEIGHBOURS) alone.session.neighbourDown(neighbour, undefined, 0)
    alone.session.schedulerChanged(false, 0)
    alone.session.wantFirst({ from: 40, to: 42 }, 0)
    alone.session.setAppetite('background', 0)
    const read = alone.follow().find(effect => effect.type === 'fetch-origin')
    assert.deepEqual(read && [read.from, read.to], [40, 41])
  })

  it('leaves alone what a reader is being sent, until that has come to nothing', () => {
    const coming = new Set([0, 1, 2, 3])
    const isComing = (chunk: number): boolean => coming.has(chunk)
    const at = bench({ withList: true, isComing })
    at.session.setAppetite('background', 0)
    const demand = at.follow().findLast(effect => effect.type === 'lease-demand')
    assert.deepEqual([demand?.slots, demand?.from], [1, 4])
    at.session.leased(1, 0, 2, 0)
    assert.ok(at.follow().some(effect => effect.type === 'lease-end' && effect.outcome === 'released'))
    at.session.slotOffered('a', 2, 0)
    at.follow()
    assert.ok([...at.asked].every(text => Number(text.split(' ')[1]) > 3))
    coming.clear()
    at.session.leased(2, 0, 2, 0)
    const read = at.follow().find(effect => effect.type === 'fetch-origin')
    assert.deepEqual(read && [read.from, read.to], [0, 2])

    const alone = bench({ withList: false, isComing: chunk => chunk < 4 })
    for (const neighbour of NEIGHBOURS) alone.session.neighbourDown(neighbour, undefined, 0)
    alone.session.schedulerChanged(false, 0)
    alone.session.setAppetite('background', 0)
    assert.equal(alone.follow().find(effect => effect.type === 'fetch-origin')?.from, 4)
  })

  it('takes no more of a lease than it may', () => {
    let left = 2
    const allowance: Allowance = { has: () => left > 0, take: () => left-- > 0 }
    const at = bench({ withList: false, allowance })
    at.session.leased(1, 0, 8, 0)
    assert.deepEqual(
      at.follow().filter(({ type }) => type !== 'lease-demand'),
      [{ type: 'lease-end', lease: 1, outcome: 'released' }],
    )
    at.session.setAppetite('background', 0)
    at.session.leased(2, 8, 16, 0)
    const read = at.follow().find(effect => effect.type === 'fetch-origin')
    assert.deepEqual(read && [read.from, read.to], [8, 10])
  })
})

describe('reading ahead', () => {
  it('is never more than half of what was asked for, and nothing after single ranges', () => {
    const range = fc.record({
      stream: fc.nat(20),
      length: fc.integer({ min: 1, max: 5e6 }),
      jump: fc.boolean(),
    })
    fc.assert(
      fc.property(fc.array(range, { maxLength: 80 }), ranges => {
        const ahead = new ReadAhead()
        const at = new Map<number, number>()
        let asked = 0
        for (const { stream, length, jump } of ranges) {
          const from = (at.get(stream) ?? stream * 1e12) + (jump ? 1e10 : 0)
          asked += length
          const bytes = ahead.next(from, from + length)
          assert.ok(bytes * 2 <= asked && bytes <= 4 * 1024 * 1024)
          if (jump || !at.has(stream)) assert.equal(bytes, 0)
          at.set(stream, from + length)
        }
      }),
      { seed: 3 },
    )
  })

  it('grows while ranges follow each other, overlaps and small gaps included', () => {
    const ahead = new ReadAhead()
    const steps = [
      [0, 1000],
      [1000, 2000],
      [1900, 3000],
      [3100, 4000],
    ] as const
    const sizes = steps.map(([from, to]) => ahead.next(from, to))
    assert.equal(sizes[0], 0)
    for (let i = 1; i < sizes.length; i++) assert.ok(sizes[i]! > sizes[i - 1]!)
  })
})
