import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import {
  Bitfield,
  BitfieldShelf,
  BlameBook,
  chunkLayout,
  DEED_WEIGHTS,
  firstFreeRun,
  MAX_BLOB_BYTES,
  MAX_CHUNK_BYTES,
  MIN_CHUNK_BYTES,
  pickChunk,
  runChunks,
} from '../src/index.ts'
import { seeded } from './seeded.ts'

const sets = fc.tuple(fc.integer({ min: 0, max: 200 }), fc.array(fc.integer({ min: -5, max: 210 })))

describe('bitfield', () => {
  it('behaves like a set of the indices within bounds', () => {
    fc.assert(
      fc.property(sets, fc.array(fc.integer({ min: -5, max: 210 })), ([length, added], removed) => {
        const field = new Bitfield(length)
        const model = new Set<number>()
        for (const index of added) {
          const within = index >= 0 && index < length
          assert.equal(field.set(index), within && !model.has(index))
          if (within) model.add(index)
        }
        for (const index of removed) assert.equal(field.clear(index), model.delete(index))
        assert.equal(field.count, model.size)
        assert.deepEqual(
          [...field.indices()],
          [...model].toSorted((a, b) => a - b),
        )
        for (let from = 0; from <= length; from++) {
          let clear = from
          while (clear < length && model.has(clear)) clear++
          assert.equal(field.nextClear(from), clear)
        }
        assert.deepEqual([...Bitfield.fromBytes(length, field.toBytes()).indices()], [...field.indices()])
      }),
      { seed: 1 },
    )
  })

  it('refuses bytes of another length, and ignores bits beyond its own', () => {
    assert.throws(() => Bitfield.fromBytes(9, new Uint8Array(1)), RangeError)
    assert.equal(Bitfield.fromBytes(3, new Uint8Array([0xff])).count, 3)
    assert.equal(Bitfield.full(11).count, 11)
  })
})

describe('bitfields on a shelf', () => {
  it('are sets of their own, and behave like others', () => {
    fc.assert(
      fc.property(sets, fc.integer({ min: 1, max: 40 }), ([length, added], count) => {
        const shelf = new BitfieldShelf(length)
        const fields = Array.from({ length: count }, () => shelf.create())
        const models = fields.map(() => new Bitfield(length))
        for (const [i, index] of added.entries()) {
          fields[i % count]!.set(index)
          models[i % count]!.set(index)
        }
        const full = Bitfield.full(length)
        for (const [i, field] of fields.entries()) {
          const model = models[i]!
          const lacks: number[] = []
          full.eachNotIn(field, index => lacks.push(index))
          assert.deepEqual([...field.indices()], [...model.indices()])
          assert.deepEqual(field.toBytes(), model.toBytes())
          assert.deepEqual(
            lacks,
            [...full.indices()].filter(index => !model.has(index)),
          )
          for (let from = 0; from <= length; from++)
            assert.equal(field.nextClear(from), model.nextClear(from))
        }
      }),
      { seed: 2 },
    )
  })
})

describe('chunk layout', () => {
  it('covers every byte exactly once, with chunks within the bounds', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 40 * 2 ** 30 }), size => {
        const layout = chunkLayout(size)
        assert.ok(layout.chunkBytes >= MIN_CHUNK_BYTES && layout.chunkBytes <= MAX_CHUNK_BYTES)
        assert.ok(Number.isInteger(Math.log2(layout.chunkBytes)))
        if (size === 0) {
          assert.equal(layout.count, 0)
          return
        }
        const last = layout.count - 1
        assert.equal(layout.offset(last) + layout.length(last), size)
        assert.ok(layout.length(last) > 0)
        assert.equal(layout.at(size - 1), last)
        assert.equal(layout.length(layout.count), 0)
      }),
      { seed: 2 },
    )
  })

  it('refuses sizes that are none', () => {
    for (const size of [-1, 0.5, Number.NaN, MAX_BLOB_BYTES + 1])
      assert.throws(() => chunkLayout(size), RangeError)
  })
})

describe('runs for the origin', () => {
  it('are free, aligned, and cover all that is free whatever the order', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 120 }),
        fc.integer({ min: 1, max: 16 }),
        fc.array(fc.nat(119)),
        fc.nat(119),
        (count, longest, taken, from) => {
          const busy = new Set(taken.filter(chunk => chunk < count))
          const free = count - busy.size
          let given = 0
          for (;;) {
            const run = firstFreeRun(count, longest, from % count, chunk => !busy.has(chunk))
            if (run === undefined) break
            assert.ok(run.to > run.from && run.to - run.from <= longest)
            assert.equal(Math.floor(run.from / longest), Math.floor((run.to - 1) / longest))
            for (let chunk = run.from; chunk < run.to; chunk++) {
              assert.ok(!busy.has(chunk))
              busy.add(chunk)
              given++
            }
          }
          assert.equal(given, free)
        },
      ),
      { seed: 3 },
    )
  })
})

describe('picker', () => {
  const everything = (): boolean => true
  const copies = (of: readonly number[]) => (chunk: number) => of[chunk]!

  it('takes the rarest, ties at random', () => {
    const counts = new Map<number, number>()
    const random = seeded(5)
    for (let i = 0; i < 3000; i++) {
      const chunk = pickChunk(Bitfield.full(5), new Bitfield(5), everything, copies([1, 3, 1, 2, 1]), random)!
      counts.set(chunk, (counts.get(chunk) ?? 0) + 1)
    }
    assert.deepEqual(
      [...counts.keys()].toSorted((a, b) => a - b),
      [0, 2, 4],
    )
    for (const count of counts.values()) assert.ok(count > 850, `${count}`)
  })

  it('takes nothing that is not offered, is held already, or is not wanted', () => {
    const only = (chunk: number): Bitfield => {
      const field = new Bitfield(4)
      field.set(chunk)
      return field
    }
    const pick = (held: Bitfield, isWanted: (chunk: number) => boolean) =>
      pickChunk(only(1), held, isWanted, copies([1, 1, 1, 1]), () => 0)
    assert.equal(pick(new Bitfield(4), everything), 1)
    assert.equal(pick(only(1), everything), undefined)
    assert.equal(
      pick(new Bitfield(4), chunk => chunk !== 1),
      undefined,
    )
  })
})

describe('blame', () => {
  it('fades, and one accuser alone banishes nobody', () => {
    const book = new BlameBook({ halfLifeMs: 1000, shunAt: 15, perAccuser: 10 })
    for (let i = 0; i < 20; i++) book.add('x', 'liar', 'wrong-bytes', 0)
    assert.equal(book.of('x', 0), 10)
    assert.ok(!book.isShunned('x', 0))
    book.add('x', 'other', 'wrong-bytes', 0)
    assert.ok(book.isShunned('x', 0))
    assert.ok(!book.isShunned('x', 1000))
    book.sweep(100_000)
    assert.equal(book.of('x', 100_000), 0)
    assert.ok(DEED_WEIGHTS['wrong-bytes'] > DEED_WEIGHTS.vanished)
  })
})

describe('run length', () => {
  it('depends on the size alone and keeps requests few', () => {
    for (const size of [1, 2 ** 20, 2 ** 28, 2 ** 31, 2 ** 35]) {
      const layout = chunkLayout(size)
      assert.ok(Math.ceil(layout.count / runChunks(layout)) <= Math.max(32, layout.count / 16 + 1))
    }
  })
})
