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
    plan.neighbourExpects(BLOB, 'busy', 7, 3)
    plan.neighbourExpects(BLOB, 'idle', 7, 0)
    plan.chunkHeld(BLOB, 0, 0)
    assert.deepEqual(summary(plan.takeEffects()), ['slot idle 0', 'slot busy 0'])
  })

  it('lets blobs take turns, however little neighbours lack of one', () => {
    const plan = planWith([0, 1, 2, 3, 4, 5, 6, 7], ['a', 'b', 'c'])
    plan.open('small', fieldOf([3]))
    for (const id of ['a', 'b', 'c']) plan.neighbourUp('small', id, fieldOf([0, 1, 2]), 0)
    const sent: string[] = []
    for (let now = 1; now <= 9; now++) {
      for (const { type, to, blob, chunk } of plan.takeEffects()) {
        if (type === 'slot') plan.requested(blob, to, chunk, now)
        if (type !== 'send') continue
        sent.push(blob)
        plan.sent(blob, to, chunk, true, now)
      }
    }
    assert.equal(sent.slice(0, 7).filter(blob => blob === 'small').length, 3, sent.join())
  })

  it('offers nothing that a neighbour has or expects, and the rarest of the rest', () => {
    const plan = planWith([], ['a', 'b'])
    plan.neighbourExpects(BLOB, 'a', 0, 5)
    plan.neighbourExpects(BLOB, 'b', 0, 0)
    plan.neighbourExpects(BLOB, 'b', 1, 0)
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

  it('sends few at the same moment while one goes to who holds nothing, and serves that one first', () => {
    const plan = new UploadPlan(seeded(1))
    plan.open(BLOB, fieldOf([0, 1, 2, 3, 4, 5]))
    for (const id of ['a', 'b', 'c', 'd']) plan.neighbourUp(BLOB, id, fieldOf([7]), 0)
    for (const id of ['x', 'y', 'z']) plan.neighbourUp(BLOB, id, fieldOf([]), 0)
    plan.takeEffects()
    const sends = (): string[] => summary(plan.takeEffects()).filter(effect => effect.startsWith('send'))
    for (const [chunk, id] of ['a', 'b', 'c', 'd'].entries()) plan.requested(BLOB, id, chunk, 0)
    assert.equal(sends().length, 4)
    plan.requested(BLOB, 'a', 4, 0)
    for (const id of ['x', 'y', 'z']) plan.requested(BLOB, id, 0, 0)
    plan.sent(BLOB, 'a', 0, true, 40)
    plan.sent(BLOB, 'b', 1, true, 80)
    assert.deepEqual(sends(), [])
    plan.sent(BLOB, 'c', 2, true, 120)
    assert.deepEqual(sends(), ['send x 0'])
    plan.sent(BLOB, 'd', 3, true, 160)
    assert.deepEqual(sends(), ['send y 0'])
    plan.neighbourHas(BLOB, 'z', 6, 0)
    plan.sent(BLOB, 'x', 0, true, 200)
    assert.deepEqual(sends(), ['send a 4'])
    plan.sent(BLOB, 'y', 0, true, 240)
    assert.deepEqual(sends(), ['send z 0'])
  })

  it('takes who got a chunk for one that holds something, whatever it says', () => {
    const plan = new UploadPlan(seeded(1))
    plan.open(BLOB, fieldOf([0, 1, 2, 3, 4, 5]))
    plan.neighbourUp(BLOB, 'silent', fieldOf([]), 0)
    plan.requested(BLOB, 'silent', 0, 0)
    plan.sent(BLOB, 'silent', 0, true, 40)
    plan.takeEffects()
    for (const chunk of [1, 2, 3, 4]) plan.requested(BLOB, 'silent', chunk, 50)
    assert.equal(plan.takeEffects().filter(({ type }) => type === 'send').length, 4)
  })

  it('promises few slots while nobody holds anything', () => {
    const plan = new UploadPlan(seeded(1))
    plan.open(BLOB, fieldOf([0, 1]))
    for (const id of ['a', 'b', 'c', 'd', 'e']) plan.neighbourUp(BLOB, id, fieldOf([]), 0)
    assert.equal(plan.takeEffects().length, 3)
    plan.neighbourHas(BLOB, 'a', 0, 0)
    plan.neighbourHas(BLOB, 'b', 0, 0)
    for (const id of ['c', 'd', 'e']) plan.neighbourHas(BLOB, id, 7, 0)
    plan.tick(100)
    assert.ok(plan.takeEffects().length >= 2)
  })

  it('never sends more at the same moment than it may', () => {
    const plan = planWith([0, 1, 2], ['a', 'b', 'c'], 2)
    for (const [chunk, id] of ['a', 'b', 'c'].entries()) plan.requested(BLOB, id, chunk, 0)
    for (let now = 0; now < 5000; now += 100) plan.tick(now)
    const sends = plan.takeEffects().filter(({ type }) => type === 'send')
    assert.equal(sends.length, 2)
  })

  it('promises half as much again as passes in a round trip, beside what it sends', () => {
    const ROUND_TRIP_MS = 80
    const CHUNK_MS = 20
    const chunks = 400
    const plan = new UploadPlan(seeded(1), { minUploads: 1, maxUploads: 1 })
    plan.open(BLOB, Bitfield.full(chunks))
    const held = new Bitfield(chunks)
    held.set(0)
    for (let i = 0; i < 20; i++) plan.neighbourUp(BLOB, `n${i}`, held, 0)
    const due: { readonly at: number; readonly run: (now: number) => void }[] = []
    let engaged = 0
    let most = 0
    const perform = (now: number): void => {
      for (const { type, to, chunk } of plan.takeEffects()) {
        if (type === 'slot') {
          engaged++
          due.push({ at: now + ROUND_TRIP_MS, run: at => plan.requested(BLOB, to, chunk, at) })
        } else if (type === 'send') {
          due.push({
            at: now + CHUNK_MS,
            run: at => {
              engaged--
              plan.sent(BLOB, to, chunk, true, at)
            },
          })
        }
      }
      most = Math.max(most, engaged)
    }
    perform(0)
    for (let step = 0; step < 800 && due.length > 0; step++) {
      due.sort((a, b) => a.at - b.at)
      const { at, run } = due.shift()!
      run(at)
      perform(at)
    }
    assert.equal(most, 1 + (1.5 * ROUND_TRIP_MS) / CHUNK_MS)
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

  it('offers the very first chunk before it is there, though no neighbour has answered yet', () => {
    const plan = planWith([], ['a'])
    plan.chunkComing(BLOB, 0, 60, 0)
    assert.deepEqual(plan.takeEffects(), [])
    plan.chunkComing(BLOB, 0, 40, 20)
    assert.deepEqual(summary(plan.takeEffects()), ['slot a 0'])
    plan.requested(BLOB, 'a', 0, 30)
    plan.chunkHeld(BLOB, 0, 60)
    assert.deepEqual(summary(plan.takeEffects()), ['send a 0'])
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

  it('offers more to whoever asks with one slot and passes another, in whichever order the answers come', () => {
    for (const answers of [
      ['pass', 'ask'],
      ['pass', 'ask', 'pass', 'ask'],
    ]) {
      const plan = planWith([0, 1, 2, 3], ['a'])
      plan.takeEffects()
      let next = 0
      for (const answer of answers) {
        if (answer === 'pass') plan.passed(BLOB, 'a', 10)
        else plan.requested(BLOB, 'a', next++, 10)
      }
      for (let chunk = 0; chunk < next; chunk++) plan.sent(BLOB, 'a', chunk, true, 20)
      assert(plan.takeEffects().some(({ type, chunk }) => type === 'slot' && chunk >= next))
    }
  })

  it('offers one more to whoever passed with one slot and let another one lapse', () => {
    const plan = planWith([0, 1, 2, 3], ['a'])
    assert.equal(plan.takeEffects().length, 2)
    plan.passed(BLOB, 'a', 10)
    plan.tick(1000)
    assert.equal(plan.takeEffects().length, 1)
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

  it('takes a slot back that nobody answers, and gives the silent one the next after all others', () => {
    const plan = planWith([0], ['silent'])
    assert.deepEqual(summary(plan.takeEffects()), ['slot silent 0'])
    plan.tick(999)
    assert.deepEqual(plan.takeEffects(), [])
    plan.neighbourUp(BLOB, 'new', fieldOf([]), 999)
    assert.deepEqual(summary(plan.takeEffects()), ['slot new 0'])
    plan.passed(BLOB, 'new', 999)
    plan.neighbourWants(BLOB, 'new', 999)
    plan.takeEffects()
    plan.tick(1000)
    assert.deepEqual(summary(plan.takeEffects()), ['slot silent 0'])
  })

  it('lets a silent neighbour have no more than one slot at a time, whatever it tells of its load', () => {
    const plan = planWith([0, 1, 2, 3, 4, 5, 6, 7], ['silent', 'honest'])
    const slots = { silent: 0, honest: 0 }
    for (let now = 0; now < 20_000; now += 100) {
      plan.neighbourExpects(BLOB, 'silent', 99, 0)
      plan.tick(now)
      for (const { type, to, chunk } of plan.takeEffects()) {
        if (type !== 'slot') continue
        slots[to as keyof typeof slots]++
        if (to !== 'honest') continue
        plan.passed(BLOB, to, now)
        plan.neighbourWants(BLOB, to, now)
        plan.neighbourExpects(BLOB, to, chunk, 3)
        plan.neighbourLacks(BLOB, to, chunk, now)
      }
    }
    assert.ok(slots.silent <= 25, `${slots.silent}`)
    assert.ok(slots.honest > slots.silent, `${slots.honest}`)
  })

  it('keeps the requests of a neighbour that introduces itself again', () => {
    const plan = planWith([0, 1, 2], ['a'])
    plan.takeEffects()
    for (const chunk of [0, 1, 2]) plan.requested(BLOB, 'a', chunk, 0)
    plan.neighbourUp(BLOB, 'a', fieldOf([]), 0)
    for (const chunk of [0, 1, 2]) plan.sent(BLOB, 'a', chunk, true, 10)
    // Nor is anything offered to it that it has asked for.
    assert.deepEqual(summary(plan.takeEffects()), ['send a 0', 'send a 1', 'send a 2'])
  })

  it('answers each request, also of a neighbour that leaves and of a blob that goes', () => {
    const plan = planWith([0, 1, 2], ['a', 'b'])
    plan.takeEffects()
    for (const chunk of [0, 1]) plan.requested(BLOB, 'a', chunk, 0)
    for (const chunk of [0, 1]) plan.requested(BLOB, 'b', chunk, 0)
    plan.requested(BLOB, 'b', 1, 0)
    assert.deepEqual(
      summary(plan.takeEffects()).filter(effect => !effect.startsWith('slot')),
      ['send a 0', 'refuse b 1'],
    )
    plan.neighbourLeft(BLOB, 'a', 1)
    assert.deepEqual(
      summary(plan.takeEffects()).filter(effect => !effect.startsWith('slot')),
      ['refuse a 1'],
    )
    plan.close(BLOB)
    assert.deepEqual(summary(plan.takeEffects()), ['refuse b 0', 'refuse b 1'])
  })

  it('refuses what has waited for so long that others had better be asked', () => {
    const plan = planWith([0, 1], ['a'], 1)
    plan.takeEffects()
    plan.requested(BLOB, 'a', 0, 0)
    plan.requested(BLOB, 'a', 1, 0)
    plan.tick(7_999)
    assert.deepEqual(
      summary(plan.takeEffects()).filter(effect => !effect.startsWith('slot')),
      ['send a 0'],
    )
    plan.tick(8_000)
    assert.deepEqual(summary(plan.takeEffects()), ['refuse a 1'])
  })

  it('opens a blob anew when its size is another', () => {
    const plan = planWith([0], [])
    plan.open(BLOB, new Bitfield(COUNT * 2))
    plan.neighbourUp(BLOB, 'a', new Bitfield(COUNT * 2), 0)
    plan.chunkHeld(BLOB, COUNT + 1, 0)
    assert.deepEqual(summary(plan.takeEffects()), [`slot a ${COUNT + 1}`])
  })

  it('answers each request once and gives every neighbour everything, whatever is passed, called off or lost', () => {
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
          /** Requests without an answer so far; a called-off one is here when it was decided to send it before. */
          const asked = new Map<string, 'waits' | 'called off'>()
          const queue: UploadEffect[] = [...plan.takeEffects()]
          let now = 0
          let steps = 0
          const lacks = (id: string, chunk: number): void => {
            plan.neighbourLacks(BLOB, id, chunk, now)
            plan.neighbourWants(BLOB, id, now)
          }
          while ([...has.values()].some(({ count }) => count < COUNT)) {
            assert.ok(++steps < 10_000, 'somebody waits for ever')
            now += 1 + Math.floor(random() * 50)
            const mayFail = steps < trouble
            const effect = queue.shift()
            if (effect === undefined) plan.tick(now)
            else {
              const { type, to, chunk } = effect
              const key = `${to} ${chunk}`
              const held = has.get(to)!
              if (type === 'send') {
                const state = asked.get(key)
                assert.ok(state !== undefined, `${key} is sent and was not asked for`)
                asked.delete(key)
                const whole = state === 'waits' && !(mayFail && random() < 0.3)
                if (whole) held.set(chunk)
                plan.sent(BLOB, to, chunk, whole, now)
                if (whole) plan.neighbourExpects(BLOB, to, chunk, 0)
                else lacks(to, chunk)
              } else if (type === 'refuse') {
                assert.equal(asked.get(key), 'waits', `${key} is refused and does not wait`)
                asked.delete(key)
                lacks(to, chunk)
              } else if (held.has(chunk) || asked.has(key) || (mayFail && random() < 0.3)) {
                plan.passed(BLOB, to, now)
                plan.neighbourWants(BLOB, to, now)
              } else if (!(mayFail && random() < 0.1)) {
                asked.set(key, 'waits')
                plan.requested(BLOB, to, chunk, now)
                queue.push(...plan.takeEffects())
                if (mayFail && random() < 0.2) {
                  const isSent = queue.some(
                    each => each.type === 'send' && each.to === to && each.chunk === chunk,
                  )
                  if (isSent) asked.set(key, 'called off')
                  else asked.delete(key)
                  plan.cancelled(BLOB, to, chunk, now)
                  lacks(to, chunk)
                }
              }
              if (mayFail && random() < 0.1) plan.neighbourUp(BLOB, to, held, now)
            }
            queue.push(...plan.takeEffects())
          }
          assert.ok(![...asked.values()].includes('waits'), 'a request was not answered')
        },
      ),
      { seed: 7, numRuns: 300 },
    )
  })
})
