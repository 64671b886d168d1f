import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { UploadPace } from '../src/upload-pace.ts'

const LEAST = 2
const MAX = 16
const CHUNK_MS = 20

/**
 * Sends `count` chunks over an uplink on which each takes `chunkMs`, as many at the same moment as the pace allows. The word of
 * an arrival comes `lateMs(i)` after the chunk has left. Returns the part of the time that the uplink was busy in the second half, and
 * how many may be on their way in the end.
 */
function run(
  count: number,
  lateMs: (chunk: number) => number,
): { readonly busy: number; readonly allowed: number } {
  const pace = new UploadPace(LEAST, MAX, 2)
  const words: { readonly at: number; readonly startedAt: number }[] = []
  let freeAt = 0
  let now = 0
  let halfAt = 0
  for (let sent = 0; sent < count; ) {
    while (sent < count && pace.mayStart(now)) {
      pace.started(now)
      freeAt = Math.max(now, freeAt) + CHUNK_MS
      words.push({ at: freeAt + lateMs(sent), startedAt: now })
      if (++sent === count / 2) halfAt = freeAt
    }
    words.sort((a, b) => a.at - b.at)
    const word = words.shift()!
    now = Math.max(now, word.at)
    pace.ended(true, word.startedAt, now)
  }
  return { busy: ((count / 2) * CHUNK_MS) / (freeAt - halfAt), allowed: pace.allowed }
}

describe('the pace of uploads', () => {
  it('is two chunks where the word of an arrival comes soon', () => {
    const { busy, allowed } = run(400, () => 1)
    assert.ok(busy > 0.99)
    assert.ok(allowed <= LEAST + 2, `${allowed}`)
  })

  it('sends no third one beside the first two because these take long, but does when nothing ends', () => {
    const pace = new UploadPace(LEAST, MAX, 2)
    for (let i = 0; i < LEAST; i++) {
      assert.ok(pace.mayStart(0))
      pace.started(0)
    }
    assert.ok(!pace.mayStart(700), 'two chunks of a third of a second are still on their way')
    assert.ok(pace.mayStart(1500))
  })

  it('sends no more because chunks that share an uplink end together, with pauses between', () => {
    const pace = new UploadPace(LEAST, MAX, 2)
    let now = 0
    for (let burst = 0; burst < 100; burst++) {
      const startedAt = now
      let sending = 0
      for (; pace.mayStart(now); sending++) pace.started(now)
      assert.ok(sending <= LEAST + 3, `${sending}`)
      now += 200 * sending
      // Much longer than from the first one's end to the last one's.
      if (burst > 0) assert.ok(!pace.mayStart(now - 1))
      for (; sending > 0; sending--) pace.ended(true, startedAt, now)
    }
  })

  it('fills the uplink where the word of an arrival comes late, and little more', () => {
    for (const late of [60, 100, 150]) {
      const { busy, allowed } = run(800, () => late)
      assert.ok(busy > 0.95, `${late} ms: ${busy}`)
      assert.ok(allowed <= 2 * (1 + late / CHUNK_MS) + 1, `${late} ms: ${allowed}`)
    }
  })

  it('goes back when it comes sooner again', () => {
    const { allowed } = run(4000, chunk => (chunk < 800 ? 150 : 1))
    assert.ok(allowed <= 6, `${allowed}`)
  })
})
