import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { LeaseRamp } from '../src/lease-ramp.ts'

/** When leases are granted within two seconds, of which none ends, ms, if chunks come at these moments. */
function grants(chunksAt: readonly number[]): number[] {
  const ramp = new LeaseRamp()
  const granted: number[] = []
  for (let now = 0; now < 2000; now += 10) {
    if (chunksAt.includes(now)) ramp.received()
    while (granted.length < 4 && ramp.mayGrant(granted.length, now)) {
      granted.push(now)
      ramp.granted(granted.length, now)
    }
  }
  return granted
}

describe('the first leases of a blob', () => {
  it('are granted one after another, each when a chunk has come', () => {
    assert.deepEqual(grants([40, 90, 130]), [0, 40, 90, 130])
  })

  it('wait no longer than half a second for a chunk', () => {
    assert.deepEqual(grants([]), [0, 500, 1000, 1500])
  })

  it('are replaced at once when they end', () => {
    const ramp = new LeaseRamp()
    ramp.granted(1, 0)
    assert.ok(ramp.mayGrant(0, 10))
    ramp.granted(1, 10)
    assert.ok(!ramp.mayGrant(1, 20))
  })
})
