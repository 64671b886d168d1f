import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { BackgroundOrder } from '../src/background-order.ts'
import { Bitfield } from '../src/index.ts'

test('named chunks come first, in the order of their names, then the others from the front', () => {
  const runs = fc.array(
    fc
      .tuple(fc.nat({ max: 30 }), fc.nat({ max: 30 }))
      .map(([a, b]) => ({ from: Math.min(a, b), to: Math.max(a, b) })),
    { maxLength: 5 },
  )
  fc.assert(
    fc.property(runs, fc.array(fc.nat({ max: 29 })), (named, heldBefore) => {
      const held = new Bitfield(30)
      for (const chunk of heldBefore) held.set(chunk)
      const order = new BackgroundOrder(held)
      for (const run of named) order.add(run)
      const expected = new Set<number>()
      for (const { from, to } of [...named, { from: 0, to: 30 }]) {
        for (let chunk = from; chunk < to; chunk++) if (!heldBefore.includes(chunk)) expected.add(chunk)
      }
      const taken: number[] = []
      for (let chunk = order.next(); chunk !== undefined; chunk = order.next()) {
        taken.push(chunk)
        held.set(chunk)
      }
      assert.deepEqual(taken, [...expected])
    }),
    { seed: 7 },
  )
})

test('what is not wanted now is passed over and comes later', () => {
  const held = new Bitfield(8)
  const order = new BackgroundOrder(held)
  order.add({ from: 6, to: 8 })
  assert.equal(
    order.next(chunk => chunk !== 6),
    7,
  )
  assert.equal(
    order.next(chunk => chunk < 6),
    0,
  )
  assert.equal(
    order.next(() => false),
    undefined,
  )
  assert.equal(order.next(), 6)
})

test('a chunk that is lost again comes with the rest', () => {
  const held = new Bitfield(4)
  const order = new BackgroundOrder(held)
  order.add({ from: 3, to: 4 })
  held.set(3)
  assert.equal(order.next(), 0)
  held.clear(3)
  assert.equal(order.next(), 0)
})
