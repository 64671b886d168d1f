import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  approximateBytes,
  formatBytes,
  formatDuration,
  formatRate,
  parseBytes,
  parseDuration,
  parseRate,
  UnitError,
} from '@darter/runtime'
import fc from 'fast-check'

const table = (parse: (text: string) => number, cases: Readonly<Record<string, number>>) => {
  for (const [text, expected] of Object.entries(cases)) assert.equal(parse(text), expected, text)
}
const refuses = (parse: (text: string) => number, texts: readonly string[]) => {
  for (const text of texts) assert.throws(() => parse(text), UnitError, text)
}

test('sizes are read in IEC units, in any case', () => {
  table(parseBytes, {
    '0': 0,
    '0B': 0,
    '1B': 1,
    '256MiB': 268435456,
    '1.5GiB': 1610612736,
    '4kib': 4096,
    '1TiB': 2 ** 40,
  })
})

test('what is no size is refused', () => {
  refuses(parseBytes, [
    '',
    '10',
    'MiB',
    '-1MiB',
    '10MB',
    '1.5B',
    '1e3B',
    ' 1MiB',
    '1MiB ',
    '9999999TiB',
    '1,5MiB',
    'NaNB',
    '1constructor',
  ])
})

test('the message names the text and what is allowed', () => {
  assert.throws(() => parseBytes('10MB'), /"10MB" is not a size such as .*KiB, MiB/)
  assert.throws(() => parseDuration('10'), /"10" is not a duration such as .*ms, s, m/)
})

test('durations are read, single and compound', () => {
  table(parseDuration, {
    '0': 0,
    '0s': 0,
    '500ms': 500,
    '10s': 10_000,
    '1.5s': 1500,
    '1h30m': 5_400_000,
    '2d': 172_800_000,
  })
})

test('what is no duration is refused', () => {
  refuses(parseDuration, [
    '',
    '10',
    's',
    '-1s',
    '1m1h',
    '1s1s',
    '1s 1ms',
    '0.5ms',
    '10sec',
    '1s!',
    '99999999999d',
  ])
})

test('rates are read in bits of the network and in bytes', () => {
  table(parseRate, {
    '0': 0,
    '100mbit': 12_500_000,
    '8bit': 1,
    '1.5gbit': 187_500_000,
    '20MiB/s': 20971520,
    '20MiB': 20971520,
    '0B/s': 0,
  })
  refuses(parseRate, ['', '100', '100mb', '100mbit/s', '10MiB/s/s', '/s'])
})

test('parsing gives back what was formatted', () => {
  const whole = fc.nat({ max: Number.MAX_SAFE_INTEGER })
  fc.assert(
    fc.property(whole, n => {
      // The longest texts: at most 16 digits fit a safe integer.
      assert.equal(parseBytes(formatBytes(n)), n)
      assert.equal(parseDuration(formatDuration(n)), n)
      assert.equal(parseRate(formatRate(n)), n)
    }),
    { seed: 1 },
  )
})

test('formatting uses the largest unit that is exact', () => {
  assert.equal(formatBytes(50 * 2 ** 30), '50GiB')
  assert.equal(formatBytes(1536), '1536B')
  assert.equal(formatBytes(0), '0B')
  assert.equal(formatDuration(90_000), '90s')
  assert.equal(formatDuration(0), '0s')
})

test('any text is either a number of bytes or refused with a UnitError', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.stringMatching(/^[0-9.]{1,4}[kKmMgGtTiIbBsd/]{0,4}$/)), text => {
      for (const parse of [parseBytes, parseDuration, parseRate]) {
        try {
          const value = parse(text)
          assert.ok(Number.isSafeInteger(value) && value >= 0)
        } catch (error) {
          assert.ok(error instanceof UnitError)
        }
      }
    }),
    { seed: 2 },
  )
})

test('sizes for people have three digits', () => {
  assert.equal(approximateBytes(0), '0 B')
  assert.equal(approximateBytes(1023), '1023 B')
  assert.equal(approximateBytes(1.5 * 2 ** 30), '1.50 GiB')
  assert.equal(approximateBytes(256 * 2 ** 20), '256 MiB')
})
