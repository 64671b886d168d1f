import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  formatContentRange,
  formatRange,
  formatUnsatisfiedRange,
  parseContentRange,
  parseRange,
  parseRanges,
} from '../src/index.ts'

const SEED = { seed: 20_262 }
const size = fc.nat({ max: Number.MAX_SAFE_INTEGER - 1 })

test('the examples of RFC 9110 14.1.2 and its edges', () => {
  const cases: { readonly header: string | undefined; readonly size: number; readonly expected: object }[] = [
    { header: undefined, size: 10_000, expected: { kind: 'whole' } },
    { header: 'bytes=0-499', size: 10_000, expected: { kind: 'range', from: 0, to: 500 } },
    { header: 'bytes=500-999', size: 10_000, expected: { kind: 'range', from: 500, to: 1000 } },
    { header: 'bytes=-500', size: 10_000, expected: { kind: 'range', from: 9500, to: 10_000 } },
    {
      header: 'bytes=9500-',
      size: 10_000,
      expected: { kind: 'range', from: 9500, to: 10_000, isOpen: true },
    },
    { header: 'bytes=0-99999', size: 10_000, expected: { kind: 'range', from: 0, to: 10_000 } },
    {
      header: 'bytes=9999-',
      size: 10_000,
      expected: { kind: 'range', from: 9999, to: 10_000, isOpen: true },
    },
    { header: 'Bytes= 0-0 ', size: 10_000, expected: { kind: 'range', from: 0, to: 1 } },
    { header: 'bytes=-99999', size: 10_000, expected: { kind: 'range', from: 0, to: 10_000 } },
    { header: 'bytes=10000-', size: 10_000, expected: { kind: 'unsatisfiable' } },
    { header: 'bytes=10000-10001', size: 10_000, expected: { kind: 'unsatisfiable' } },
    { header: 'bytes=-0', size: 10_000, expected: { kind: 'unsatisfiable' } },
    { header: 'bytes=0-', size: 0, expected: { kind: 'unsatisfiable' } },
    { header: 'bytes=-1', size: 0, expected: { kind: 'whole' } },
    { header: 'bytes=99999999999999999999-', size: 10, expected: { kind: 'unsatisfiable' } },
    { header: 'bytes=0-99999999999999999999', size: 10, expected: { kind: 'range', from: 0, to: 10 } },
  ]
  for (const { header, size, expected } of cases) assert.deepEqual(parseRange(header, size), expected, header)
})

test('several ranges, other units, invalid and malformed ranges are ignored', () => {
  const ignored = [
    'bytes=0-1,3-4',
    'bytes=0-1,',
    'items=0-1',
    'bytes=5-4',
    'bytes=',
    'bytes=-',
    'bytes',
    '0-1',
    '',
  ]
  for (const header of [
    ...ignored,
    'bytes=a-b',
    'bytes=0x1-2',
    'bytes=1.5-2',
    'bytes=--1',
    'bytes=+1-2',
    'bytes=0 -1',
    'bytes=0-1\n2',
  ]) {
    assert.deepEqual(parseRange(header, 10), { kind: 'whole' }, header)
  }
})

test('several ranges count when they follow each other', () => {
  const ranges = (...spans: readonly [number, number][]): object => ({
    kind: 'ranges',
    ranges: spans.map(([from, to]) => ({ from, to })),
  })
  const whole = { kind: 'whole' }
  const cases: { readonly header: string | undefined; readonly expected: object }[] = [
    { header: 'bytes=0-1,2-3', expected: ranges([0, 2], [2, 4]) },
    { header: 'Bytes= 0-1 , ,8-, 9-20', expected: whole },
    { header: 'bytes=0-1 , ,8-', expected: ranges([0, 2], [8, 10]) },
    { header: 'bytes=0-1,-3', expected: ranges([0, 2], [7, 10]) },
    { header: 'bytes=0-1,10-,77-78', expected: { kind: 'range', from: 0, to: 2 } },
    { header: 'bytes=10-,11-12', expected: { kind: 'unsatisfiable' } },
    { header: 'bytes=3-4,0-1', expected: whole },
    { header: 'bytes=0-4,4-5', expected: whole },
    { header: 'bytes=0-1,x', expected: whole },
    { header: 'bytes=,', expected: whole },
    { header: 'lines=0-1,2-3', expected: whole },
    { header: undefined, expected: whole },
    { header: 'bytes=4-', expected: { kind: 'range', from: 4, to: 10, isOpen: true } },
  ]
  for (const { header, expected } of cases) assert.deepEqual(parseRanges(header, 10), expected, header)
  const many = (count: number): string =>
    `bytes=${Array.from({ length: count }, (_, i) => `${2 * i}-${2 * i}`).join(',')}`
  assert.equal(parseRanges(many(1024), 10_000).kind, 'ranges')
  assert.equal(parseRanges(many(1025), 10_000).kind, 'whole')
})

test('any text gives a range inside the representation', () => {
  const digits = fc.string({
    unit: fc.constantFrom('b', 'y', 't', 'e', 's', '=', '-', ',', ' ', '0', '1', '9'),
    maxLength: 24,
  })
  const likely = fc.oneof(
    digits,
    digits.map(rest => `bytes=${rest}`),
    fc.string({ unit: 'binary' }),
  )
  fc.assert(
    fc.property(likely, size, (header, whole) => {
      const range = parseRanges(header, whole)
      if (range.kind === 'ranges') {
        let last = 0
        for (const { from, to } of range.ranges) {
          assert.ok(last <= from && from < to && to <= whole)
          last = to
        }
      }
      if (range.kind === 'range') assert.ok(0 <= range.from && range.from < range.to && range.to <= whole)
    }),
    { ...SEED, numRuns: 2000 },
  )
})

test('what is formatted is read back', () => {
  const spans = fc
    .tuple(size, size, size)
    .map(all => all.toSorted((a, b) => a - b))
    .filter(([a = 0, b = 0]) => a < b)
  fc.assert(
    fc.property(spans, ([from = 0, to = 0, whole = 0]) => {
      assert.deepEqual(parseRange(formatRange(from, to), whole), { kind: 'range', from, to })
      assert.deepEqual(parseRange(formatRange(from), whole), { kind: 'range', from, to: whole, isOpen: true })
      assert.deepEqual(parseContentRange(formatContentRange(from, to, whole)), {
        kind: 'range',
        from,
        to,
        size: whole,
      })
      assert.deepEqual(parseContentRange(formatContentRange(from, to, undefined)), {
        kind: 'range',
        from,
        to,
        size: undefined,
      })
      assert.deepEqual(parseContentRange(formatUnsatisfiedRange(whole)), { kind: 'unsatisfied', size: whole })
    }),
    SEED,
  )
})

test('a contradictory Content-Range is refused', () => {
  const bad = [
    '',
    'bytes 5-4/10',
    'bytes 0-10/10',
    'bytes */*',
    'bytes 0-1',
    'items 0-1/2',
    'bytes 0-1/2 ',
    'bytes=0-1/2',
  ]
  for (const header of [...bad, 'bytes 0-9007199254740993/*', 'bytes */9007199254740993', 'bytes -1/2']) {
    assert.equal(parseContentRange(header), undefined, header)
  }
})
