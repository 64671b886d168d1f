import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import type { Scenario } from './scenario.ts'
import { simulate } from './simulate.ts'

const CALM = {
  peers: 40,
  chunks: 64,
  originRate: 1,
  latencyMs: 1,
  churn: 0,
  liars: 0,
  zones: 1,
  seed: 1,
} as const satisfies Scenario

describe('a simulated swarm', () => {
  it('comes out the same for the same seed, and not for another one', () => {
    assert.deepEqual(simulate(CALM), simulate(CALM))
    assert.notDeepEqual(simulate(CALM), simulate({ ...CALM, seed: 2 }))
  })

  it('reads a cold blob from the origin once, whatever the number of peers, in as many requests', () => {
    const requests = [1, 2, 4, 8, 24].map(peers => {
      const { originRatio, originRequests, unfinished } = simulate({ ...CALM, peers })
      assert.equal(originRatio, 1, `${peers} peers`)
      assert.equal(unfinished, 0, `${peers} peers`)
      return originRequests
    })
    assert.equal(new Set(requests).size, 1, requests.join(' '))
  })

  it('is near the bound, whatever the latency', () => {
    for (const latencyMs of [1, 20]) {
      const { lastRatio } = simulate({ ...CALM, peers: 200, chunks: 125, latencyMs })
      assert.ok(lastRatio >= 1 && lastRatio < 1.3, `${lastRatio} at ${latencyMs} ms`)
    }
  })

  it('keeps the origin read about once, and starves nobody, when peers leave, lie, and live apart', () => {
    const outcome = simulate({ ...CALM, peers: 100, churn: 0.1, liars: 0.05, zones: 2 })
    assert.equal(outcome.unfinished, 0)
    assert.ok(outcome.originRatio < 1.5, `${outcome.originRatio}`)
  })

  it('ends for every peer when others lie, leave, and the scheduler dies, for any seed', () => {
    fc.assert(
      fc.property(
        fc.record({
          seed: fc.integer({ min: 1, max: 1e6 }),
          peers: fc.integer({ min: 2, max: 8 }),
          liar: fc.boolean(),
          leaver: fc.boolean(),
          schedulerDiesAt: fc.option(fc.integer({ min: 0, max: 8000 }), { nil: undefined }),
        }),
        ({ seed, peers, liar, leaver, schedulerDiesAt }) => {
          const outcome = simulate({
            ...CALM,
            peers,
            seed,
            liars: liar ? 1 / peers : 0,
            churn: leaver ? 1 / peers : 0,
            ...(schedulerDiesAt === undefined ? {} : { schedulerDiesAt }),
          })
          assert.equal(outcome.unfinished, 0)
          assert.equal(outcome.gaveUp, 0)
          for (const blamed of outcome.blamed) assert.ok(liar && blamed === 'p0', blamed)
        },
      ),
      { numRuns: 40, seed: 20_261 },
    )
  })

  it('names those that send wrong bytes, and nobody else', () => {
    const outcome = simulate({ ...CALM, liars: 0.05, seed: 3 })
    assert.deepEqual(outcome.blamed, ['p0', 'p1'])
  })

  it('gives up within bounded time when the origin fails and nobody has the blob', () => {
    const outcome = simulate({ ...CALM, peers: 3, originFails: () => true })
    assert.equal(outcome.gaveUp, 3)
  })

  it('rides out an origin that fails for a while', () => {
    const outcome = simulate({ ...CALM, peers: 3, originFails: now => now > 1000 && now < 1400 })
    assert.equal(outcome.unfinished, 0)
  })
})
