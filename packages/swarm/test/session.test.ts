import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { Bitfield, chunkLayout, DownloadSession, MIN_CHUNK_BYTES } from '../src/index.ts'

const BLOB = MIN_CHUNK_BYTES * 64
const layout = chunkLayout(BLOB)
const hash = new Uint8Array(32).fill(7)

/** A session over an empty store, whose scheduler has answered, with neighbours that hold everything. */
function sessionAmong(
  neighbours: readonly string[],
  of = layout,
): { session: DownloadSession; held: Bitfield } {
  const held = new Bitfield(of.count)
  const trusted = new Bitfield(of.count)
  const session = new DownloadSession({
    layout: of,
    held,
    trusted,
    random: () => 0.5,
    now: 0,
    schedulerUp: true,
  })
  session.schedulerAnswered(0)
  for (const id of neighbours) {
    session.neighbourUp(id)
    for (let chunk = 0; chunk < of.count; chunk++) session.neighbourHas(id, chunk, hash)
  }
  session.takeEffects()
  return { session, held }
}

describe('a download session', () => {
  it('holds nothing against a neighbour that it left while an answer was under way', () => {
    const { session } = sessionAmong([])
    session.readerAdded(1, 0, layout.count, false, 0)
    session.neighbourUp('n')
    session.neighbourHas('n', 3, hash)
    session.slotOffered('n', 3, 0)
    assert.deepEqual(
      session.takeEffects().filter(({ type }) => type === 'request'),
      [{ type: 'request', neighbour: 'n', chunk: 3 }],
    )
    session.neighbourDown('n', undefined, 1)
    assert.equal(session.chunkFromNeighbour('n', 3, hash, 2), 'wrong')
    const effects = session.takeEffects()
    assert.ok(effects.some(({ type }) => type === 'cancel'))
    assert.ok(!effects.some(({ type }) => type === 'blame'))
  })

  describe('with two neighbours that hold everything', () => {
    const small = chunkLayout(MIN_CHUNK_BYTES * 3)
    const start = () => {
      const { session, held } = sessionAmong(['a', 'b'], small)
      session.readerAdded(1, 0, small.count, false, 0)
      session.takeEffects()
      const keep = (id: string, chunk: number, now: number) => {
        assert.equal(session.chunkFromNeighbour(id, chunk, hash, now), 'keep')
        held.set(chunk)
        session.chunkStored(chunk, { kind: 'neighbour', id }, now)
      }
      const acts = () =>
        session
          .takeEffects()
          .flatMap(effect => ('chunk' in effect && 'neighbour' in effect ? [effect] : []))
          .map(({ type, neighbour, chunk }) => `${type} ${neighbour} ${chunk}`)
      return { session, keep, acts }
    }

    it('takes a chunk that waits too long to the one that has time for it, unless it is coming', () => {
      for (const isComing of [false, true]) {
        const { session, keep, acts } = start()
        session.slotOffered('a', 0, 0)
        keep('a', 0, 50)
        session.slotOffered('a', 1, 60)
        session.slotOffered('b', 2, 60)
        assert.deepEqual(acts(), ['request a 0', 'request a 1', 'request b 2'])
        if (isComing) session.chunkBegan('a', 1)
        keep('b', 2, 100)
        session.slotOffered('b', 1, 105)
        assert.deepEqual(acts(), [], 'it is not late yet')
        session.slotOffered('b', 1, 111)
        assert.deepEqual(acts(), isComing ? [] : ['cancel a 1', 'request b 1'])
      }
    })

    it('does so at the end though no slot is offered', () => {
      const { session, keep, acts } = start()
      session.slotOffered('a', 0, 0)
      keep('a', 0, 50)
      session.slotOffered('a', 1, 60)
      session.tick(200)
      assert.deepEqual(acts(), ['request a 0', 'request a 1'], 'something else has not been asked for')
      session.slotOffered('b', 2, 210)
      session.tick(300)
      assert.deepEqual(acts(), ['request b 2', 'cancel a 1', 'request b 1'])
    })

    it('asks without a slot when somebody has something and offers nothing for long', () => {
      const { session, keep, acts } = start()
      for (let now = 100; now <= 3000; now += 100) session.tick(now)
      assert.deepEqual(acts(), [])
      for (let now = 3100; now <= 3700; now += 100) session.tick(now)
      assert.deepEqual(acts(), ['request a 0'])
      keep('a', 0, 3800)
      assert.deepEqual(acts(), ['request a 1'], 'and for the next one as soon as that came')
      session.slotOffered('a', 2, 3850)
      keep('a', 1, 3900)
      assert.deepEqual(acts(), ['request a 2'], 'until it offers slots again')
    })

    it('takes refusals of requests that ran side by side for one', () => {
      const { session, acts } = start()
      for (const chunk of [0, 1, 2]) session.slotOffered('a', chunk, 0)
      for (const chunk of [0, 1, 2]) session.requestFailed('a', chunk, 'busy', 10)
      acts()
      session.slotOffered('a', 0, 510)
      assert.deepEqual(acts(), ['request a 0'])
    })
  })

  it('asks without a slot for the chunks of a range and for none after it', () => {
    for (const [from, to] of [
      [5, 6],
      [5, 7],
      [62, 64],
    ] as const) {
      const { session } = sessionAmong(['a', 'b', 'c'])
      session.verifiedList(Array(layout.count).fill(hash), () => undefined)
      session.takeEffects()
      session.readerAdded(1, from, to, true, 0)
      const asked = session.takeEffects().flatMap(each => (each.type === 'request' ? [each.chunk] : []))
      assert.deepEqual(asked, to - from === 1 ? [from] : [from, from + 1])
    }
  })

  it('blames nobody and gives up nothing while its own limits hold bytes back', () => {
    const start = (asks: boolean) => {
      const { session } = sessionAmong(['slow', 'idle'])
      session.readerAdded(1, 0, layout.count, false, 0)
      if (asks) session.slotOffered('slow', 0, 0)
      session.takeEffects()
      return session
    }
    const typesAfter = (session: DownloadSession, seconds: number, heldBack: boolean) => {
      for (let ms = 100; ms <= seconds * 1000; ms += 100) session.tick(ms, heldBack)
      return new Set(session.takeEffects().map(({ type }) => type))
    }
    assert.deepEqual([...typesAfter(start(true), 120, true)], [])
    assert.ok(typesAfter(start(true), 10, false).has('fetch-origin'))
    assert.ok(typesAfter(start(true), 120, false).has('give-up'))
    // What another download has on its way is no excuse for one that has nothing.
    assert.ok(typesAfter(start(false), 10, true).has('request'))
  })
})
