import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { createEventQueue } from './event-queue.ts'

const USUAL = [0, 1, 5]

describe('an event queue', () => {
  it('lets things happen in the order of their times, then of their planning, whatever delays are usual', () => {
    const delay = fc.oneof(
      fc.constantFrom(...USUAL),
      fc.integer({ min: 0, max: 12 }),
      fc.double({ min: 0, max: 8, noNaN: true }),
    )
    const plan = fc.record({ delay, next: fc.array(delay, { maxLength: 3 }) })
    fc.assert(
      fc.property(fc.array(plan, { maxLength: 60 }), plans => {
        const events = createEventQueue(USUAL)
        const planned: { readonly at: number; readonly order: number }[] = []
        const happened: number[] = []
        const add = (ms: number, then: () => void): void => {
          const order = planned.length
          planned.push({ at: events.now + ms, order })
          events.after(ms, () => {
            assert.equal(events.now, planned[order]!.at)
            happened.push(order)
            then()
          })
        }
        for (const { delay: ms, next } of plans) add(ms, () => next.forEach(more => add(more, () => {})))
        events.runUntil(() => false)
        const expected = planned.toSorted((a, b) => a.at - b.at || a.order - b.order)
        assert.deepEqual(
          happened,
          expected.map(({ order }) => order),
        )
      }),
      { seed: 3 },
    )
  })

  it('takes more than it has room for at first, and keeps their order', () => {
    const events = createEventQueue([1])
    const happened: number[] = []
    const plan = (from: number, to: number): void => {
      for (let i = from; i < to; i++) events.after(i % 2 === 0 ? 1 : 2 - i / 10_000, () => happened.push(i))
    }
    plan(0, 1500)
    // What was planned first is gone when there is no room any more.
    events.runUntil(() => happened.length === 700)
    plan(1500, 5000)
    events.runUntil(() => false)
    const even = Array.from({ length: 2500 }, (_, i) => 2 * i)
    const [early, late] = [even.filter(i => i < 1500), even.filter(i => i >= 1500)]
    const odd = (of: readonly number[]): number[] => of.map(i => i + 1).toReversed()
    // Those of the second half were planned at 1 ms.
    assert.deepEqual(happened, [...early, ...odd(early), ...late, ...odd(late)])
  })

  it('stops when it is told to', () => {
    const events = createEventQueue([1])
    let happened = 0
    for (let i = 0; i < 10; i++) events.after(1, () => happened++)
    events.runUntil(() => happened === 4)
    assert.equal(happened, 4)
  })
})
