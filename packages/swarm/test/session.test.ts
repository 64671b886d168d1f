import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { Bitfield, chunkLayout, DownloadSession, MIN_CHUNK_BYTES } from '../src/index.ts'

const BLOB = MIN_CHUNK_BYTES * 64

describe('a download session', () => {
  it('holds nothing against a neighbour that it left while an answer was under way', () => {
    const layout = chunkLayout(BLOB)
    const session = new DownloadSession({
      layout,
      held: new Bitfield(layout.count),
      trusted: new Bitfield(layout.count),
      random: () => 0.5,
      now: 0,
      schedulerUp: true,
    })
    const hash = new Uint8Array(32).fill(7)
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

  it('blames nobody and gives up nothing while its own limits hold bytes back', () => {
    const layout = chunkLayout(BLOB)
    const start = () => {
      const session = new DownloadSession({
        layout,
        held: new Bitfield(layout.count),
        trusted: new Bitfield(layout.count),
        random: () => 0.5,
        now: 0,
        schedulerUp: true,
      })
      session.schedulerAnswered(0)
      for (const id of ['slow', 'idle']) {
        session.neighbourUp(id)
        for (let chunk = 0; chunk < layout.count; chunk++) {
          session.neighbourHas(id, chunk, new Uint8Array(32).fill(chunk))
        }
      }
      session.readerAdded(1, 0, layout.count, false, 0)
      session.takeEffects()
      return session
    }
    const typesAfter = (session: DownloadSession, seconds: number, heldBack: boolean) => {
      for (let ms = 100; ms <= seconds * 1000; ms += 100) session.tick(ms, heldBack)
      return new Set(session.takeEffects().map(({ type }) => type))
    }
    assert.deepEqual([...typesAfter(start(), 120, true)], [])
    assert.ok(typesAfter(start(), 10, false).has('fetch-origin'))
    assert.ok(typesAfter(start(), 120, false).has('give-up'))
  })
})
