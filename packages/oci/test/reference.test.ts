import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  InvalidDigestError,
  MAX_NAME_LENGTH,
  NameInvalidError,
  parseReference,
  parseRepositoryName,
  parseTag,
  TagInvalidError,
} from '../src/index.ts'

const SEED = { seed: 20_261 }
const word = fc.stringMatching(/^[a-z0-9]{1,6}$/)
const joint = fc.constantFrom('.', '_', '__', '-', '--', '---')
const component = fc
  .tuple(word, fc.array(fc.tuple(joint, word), { maxLength: 3 }))
  .map(([first, rest]) => first + rest.map(([by, next]) => by + next).join(''))
const name = fc.array(component, { minLength: 1, maxLength: 5 }).map(parts => parts.join('/'))

test('every name built from the grammar is accepted and returned as it is', () => {
  fc.assert(
    fc.property(name, text => {
      if (text.length <= MAX_NAME_LENGTH) assert.equal(parseRepositoryName(text), text)
    }),
    SEED,
  )
})

test('an accepted name is safe as a path: no dot segments, no empty or upper-case parts', () => {
  const likely = fc.string({
    unit: fc.constantFrom('a', 'B', '0', '.', '_', '-', '/', '%', '\n', ':'),
    maxLength: 20,
  })
  fc.assert(
    fc.property(likely, text => {
      let accepted: string
      try {
        accepted = parseRepositoryName(text)
      } catch (error) {
        assert.ok(error instanceof NameInvalidError)
        return
      }
      assert.match(accepted, /^[a-z0-9._/-]+$/)
      for (const part of accepted.split('/')) assert.match(part, /^[a-z0-9](.*[a-z0-9])?$/)
      assert.equal(new URL(`http://h/v2/${accepted}/x`).pathname, `/v2/${accepted}/x`)
    }),
    { ...SEED, numRuns: 2000 },
  )
})

test('names are refused by cause', () => {
  for (const bad of [
    '',
    '/',
    'a/',
    '/a',
    'a//b',
    'A',
    'a..b',
    'a___b',
    '-a',
    'a-',
    '../a',
    'a/../b',
    'a\n',
    'a%2fb',
    'é',
  ]) {
    assert.throws(() => parseRepositoryName(bad), NameInvalidError, JSON.stringify(bad))
  }
  assert.equal(parseRepositoryName('a'.repeat(MAX_NAME_LENGTH)).length, MAX_NAME_LENGTH)
  assert.throws(() => parseRepositoryName('a'.repeat(MAX_NAME_LENGTH + 1)), NameInvalidError)
})

test('a hostile name is refused in linear time', () => {
  assert.throws(() => parseRepositoryName(`${'a-'.repeat(100_000)}!`), NameInvalidError)
  assert.throws(() => parseRepositoryName(`${'a_-'.repeat(84)}!`), NameInvalidError)
})

test('tags follow the grammar and its bound of 128 characters', () => {
  fc.assert(
    fc.property(fc.stringMatching(/^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$/), text => {
      assert.deepEqual(parseReference(text), { kind: 'tag', tag: text })
    }),
    SEED,
  )
  assert.equal(parseTag('a'.repeat(128)).length, 128)
  for (const bad of ['', '.a', '-a', 'a/b', 'a b', 'a\n', '..', 'a'.repeat(129)]) {
    assert.throws(() => parseTag(bad), TagInvalidError, JSON.stringify(bad))
  }
})

test('a reference with a colon is a digest or an error of one', () => {
  const digest = `sha256:${'0a'.repeat(32)}`
  assert.deepEqual(parseReference(digest), { kind: 'digest', digest })
  for (const bad of ['sha256:', `sha256:${'0A'.repeat(32)}`, `md5:${'0'.repeat(32)}`, 'tag:x']) {
    assert.throws(() => parseReference(bad), InvalidDigestError)
  }
})

test('arbitrary text is either accepted or refused by its own error', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 300 }), text => {
      for (const parse of [parseReference, parseRepositoryName]) {
        try {
          parse(text)
        } catch (error) {
          assert.ok(
            error instanceof TagInvalidError ||
              error instanceof InvalidDigestError ||
              error instanceof NameInvalidError,
          )
          assert.ok(error.message.length < 400)
        }
      }
    }),
    SEED,
  )
})
