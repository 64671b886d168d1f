import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { HeldReports } from '../src/index.ts'

const SILENCE_MS = 5_000

describe('reports of what is held', () => {
  it('are due at once for a chunk from the origin, and then for the next one that comes 10 ms later or more', () => {
    const reports = new HeldReports()
    assert.ok(reports.holds(0, 'origin', 0))
    assert.deepEqual(reports.take(0, SILENCE_MS), [0])
    assert.ok(!reports.holds(1, 'origin', 9))
    assert.ok(reports.holds(2, 'origin', 10))
    assert.deepEqual(reports.take(10, SILENCE_MS), [1, 2])
  })

  it('are due for every eighth chunk of an origin that is fast', () => {
    const reports = new HeldReports()
    let count = 0
    for (let chunk = 0; chunk < 8_000; chunk++) {
      const now = chunk / 100
      if (reports.holds(chunk, 'origin', now)) {
        count++
        reports.take(now, SILENCE_MS)
      }
    }
    assert.equal(count, 1_000)
  })

  it('bring what came from neighbours along with a chunk from the origin, or after 5 s', () => {
    const reports = new HeldReports()
    assert.ok(!reports.holds(4, 'neighbour', 0))
    assert.deepEqual(reports.take(4_999, SILENCE_MS), [])
    assert.deepEqual(reports.take(5_000, SILENCE_MS), [4])
    assert.ok(!reports.holds(5, 'neighbour', 6_000))
    assert.ok(reports.holds(6, 'origin', 6_001))
    assert.deepEqual(reports.take(6_001, SILENCE_MS), [6, 5])
    assert.deepEqual(reports.take(60_000, SILENCE_MS), [], 'nothing twice')
  })

  it('bring what came from neighbours after an eighth of the silence that many peers are allowed', () => {
    const reports = new HeldReports()
    reports.holds(4, 'neighbour', 0)
    assert.deepEqual(reports.take(24_999, 200_000), [])
    assert.deepEqual(reports.take(25_000, 200_000), [4])
  })

  it('name no chunk that was lost meanwhile', () => {
    const reports = new HeldReports()
    reports.holds(1, 'origin', 0)
    reports.holds(2, 'neighbour', 0)
    reports.lost(1)
    assert.deepEqual(reports.take(1, SILENCE_MS), [], 'nothing else is due')
    reports.lost(2)
    assert.deepEqual(reports.take(5_000, SILENCE_MS), [])
  })
})
