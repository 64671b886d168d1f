import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { Bitfield, type UploadEffect, UploadPlan } from '../src/index.ts'
import { seeded } from './seeded.ts'

const BLOB = 'blob'
const COUNT = 8

const fieldOf = (chunks: readonly number[]): Bitfield => {
  const field = new Bitfield(COUNT)
  for (const chunk of chunks) field.set(chunk)
  return field
}

/** A plan that holds some chunks, with neighbours that hold nothing. */
function planWith(held: readonly number[], neighbours: readonly string[], maxUploads = 16): UploadPlan {
  const plan = new UploadPlan(seeded(1), { minUploads: 1, maxUploads })
  plan.open(BLOB, fieldOf(held))
  for (const id of neighbours) plan.neighbourUp(BLOB, id, fieldOf([]), 0)
  return plan
}

const summary = (effects: readonly UploadEffect[]): string[] =>
  effects.map(({ type, to, chunk }) => `${type} ${to} ${chunk}`)

describe('an upload plan', () => {
  it('offers slots to those who wait for the fewest chunks', () => {
    const plan = planWith([], ['busy', 'idle'])
    plan.neighbourCovers(BLOB, 'busy', 7, 3)
    plan.neighbourCovers(BLOB, 'idle', 7, 0)
    plan.chunkHeld(BLOB, 0, 0)
    assert.deepEqual(summary(plan.takeEffects()), ['slot idle 0', 'slot busy 0'])
  })

  it('offers nothing that a neighbour has or expects, and the rarest of the rest', () => {
    const plan = planWith([], ['a', 'b'])
    plan.neighbourCovers(BLOB, 'a', 0, 5)
    plan.neighbourCovers(BLOB, 'b', 0, 0)
    plan.neighbourCovers(BLOB, 'b', 1, 0)
    for (const chunk of [0, 1, 2]) plan.chunkHeld(BLOB, chunk, 0)
    // When 1 came only `a` lacked it; then 2, which nobody has, goes to `b`.
    assert.deepEqual(summary(plan.takeEffects()), ['slot a 1', 'slot b 2'])
  })

  it('sends one chunk at a time, and another one beside it when that takes long', () => {
    const plan = planWith([0, 1, 2], ['a', 'b', 'c'])
    plan.takeEffects()
    for (const [chunk, id] of ['a', 'b', 'c'].entries()) plan.requested(BLOB, id, chunk, 0)
    assert.deepEqual(
      summary(plan.takeEffects()).filter(effect => effect.startsWith('send')),
      ['send a 0'],
    )
    plan.sent(BLOB, 'a', 0, true, 50)
    assert.deepEqual(
      summary(plan.takeEffects()).filter(effect => effect.startsWith('send')),
      ['send b 1'],
    )
    plan.tick(140)
    assert.deepEqual(plan.takeEffects(), [])
    plan.tick(160)
    assert.deepEqual(summary(plan.takeEffects()), ['send c 2'])
  })

  it('never sends more at the same moment than it may', () => {
    const plan = planWith([0, 1, 2], ['a', 'b', 'c'], 2)
    for (const [chunk, id] of ['a', 'b', 'c'].entries()) plan.requested(BLOB, id, chunk, 0)
    for (let now = 0; now < 5000; now += 100) plan.tick(now)
    const sends = plan.takeEffects().filter(({ type }) => type === 'send')
    assert.equal(sends.length, 2)
  })

  it('offers a chunk that is nearly there, and sends it when it is held', () => {
    const plan = planWith([0], ['a'])
    plan.takeEffects()
    // A slot that is answered after 20 ms tells how far away the neighbours are.
    plan.requested(BLOB, 'a', 0, 20)
    plan.sent(BLOB, 'a', 0, true, 30)
    plan.takeEffects()
    plan.chunkComing(BLOB, 1, 25, 40)
    assert.deepEqual(plan.takeEffects(), [])
    plan.chunkComing(BLOB, 1, 15, 50)
    assert.deepEqual(summary(plan.takeEffects()), ['slot a 1'])
    plan.requested(BLOB, 'a', 1, 60)
    assert.deepEqual(plan.takeEffects(), [])
    plan.chunkHeld(BLOB, 1, 65)
    assert.deepEqual(summary(plan.takeEffects()), ['send a 1'])
  })

  it('refuses what was offered and did not come, what it does not have, and those it does not know', () => {
    const plan = planWith([0], ['a'])
    plan.takeEffects()
    plan.requested(BLOB, 'a', 0, 20)
    plan.sent(BLOB, 'a', 0, true, 30)
    plan.chunkComing(BLOB, 1, 0, 40)
    plan.requested(BLOB, 'a', 1, 50)
    plan.takeEffects()
    plan.chunkLost(BLOB, 1, 60)
    assert.deepEqual(summary(plan.takeEffects()), ['refuse a 1'])
    plan.requested(BLOB, 'a', 5, 70)
    plan.requested(BLOB, 'stranger', 0, 70)
    plan.requested('other', 'a', 0, 70)
    assert.deepEqual(summary(plan.takeEffects()), ['refuse a 5', 'refuse stranger 0', 'refuse a 0'])
  })

  it('leaves those alone who pass, until they want or there is something new', () => {
    const plan = planWith([0], ['a'])
    plan.takeEffects()
    plan.passed(BLOB, 'a', 10)
    plan.tick(5000)
    assert.deepEqual(plan.takeEffects(), [])
    plan.neighbourWants(BLOB, 'a', 5000)
    assert.deepEqual(summary(plan.takeEffects()), ['slot a 0'])
    plan.passed(BLOB, 'a', 5010)
    plan.chunkHeld(BLOB, 1, 5020)
    assert.equal(plan.takeEffects().length, 2)
  })

  it('takes a slot back that nobody answers', () => {
    const plan = planWith([0], ['silent', 'other'])
    plan.neighbourCovers(BLOB, 'other', 0, 0)
    plan.takeEffects()
    plan.tick(999)
    plan.neighbourLacks(BLOB, 'other', 0, 999)
    plan.chunkHeld(BLOB, 1, 999)
    plan.takeEffects()
    plan.tick(1000)
    const late = planWith([0], ['silent'])
    late.takeEffects()
    late.neighbourUp(BLOB, 'new', fieldOf([]), 1)
    late.takeEffects()
    late.neighbourCovers(BLOB, 'new', 7, 0)
    late.tick(1001)
    assert.equal(summary(late.takeEffects())[0], 'slot new 0')
  })

  it('gives every neighbour everything, whatever is answered, passed, called off or lost meanwhile', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 1e6 }),
        fc.integer({ min: 1, max: 5 }),
        fc.integer({ min: 0, max: 60 }),
        (seed, neighbours, trouble) => {
          const random = seeded(seed)
          const ids = Array.from({ length: neighbours }, (_, i) => `n${i}`)
          const plan = planWith([0, 1, 2, 3, 4, 5, 6, 7], ids)
          const has = new Map(ids.map(id => [id, fieldOf([])]))
          let now = 0
          let steps = 0
          const queue: UploadEffect[] = [...plan.takeEffects()]
          while ([...has.values()].some(({ count }) => count < COUNT)) {
            assert.ok(++steps < 10_000, 'somebody waits for ever')
            now += 1 + Math.floor(random() * 50)
            const effect = queue.shift()
            const id = effect?.to ?? ids[Math.floor(random() * ids.length)]!
            const held = has.get(id)!
            const mayFail = steps < trouble
            if (effect === undefined) plan.tick(now)
            else if (effect.type === 'refuse') assert.ok(mayFail, 'refused for nothing')
            else if (effect.type === 'send') {
              const whole = !(mayFail && random() < 0.3)
              if (whole) {
                held.set(effect.chunk)
                plan.neighbourCovers(BLOB, id, effect.chunk, 0)
              }
              plan.sent(BLOB, id, effect.chunk, whole, now)
              if (!whole) plan.neighbourLacks(BLOB, id, effect.chunk, now)
            } else if (held.has(effect.chunk) || (mayFail && random() < 0.3)) {
              plan.passed(BLOB, id, now)
              if (held.count < COUNT) plan.neighbourWants(BLOB, id, now)
            } else if (!(mayFail && random() < 0.1)) {
              plan.requested(BLOB, id, effect.chunk, now)
              if (mayFail && random() < 0.2) {
                plan.cancelled(BLOB, id, effect.chunk, now)
                plan.neighbourLacks(BLOB, id, effect.chunk, now)
              }
            }
            if (mayFail && random() < 0.1) plan.neighbourUp(BLOB, id, held, now)
            // What was not answered is asked for again.
            if (queue.length === 0 && steps % 20 === 0) {
              for (const [other, field] of has) if (field.count < COUNT) plan.neighbourWants(BLOB, other, now)
            }
            queue.push(...plan.takeEffects())
          }
        },
      ),
      { seed: 7, numRuns: 200 },
    )
  })
})
