import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { parseImageReference } from '../src/index.ts'

const HEX = 'a'.repeat(64)

describe('an image as a user names it', () => {
  for (const [text, name, reference] of [
    ['app', 'app', 'latest'],
    ['ghcr.io/team/app', 'ghcr.io/team/app', 'latest'],
    ['ghcr.io/team/app:v1', 'ghcr.io/team/app', 'v1'],
    ['host:5000/app', 'host:5000/app', 'latest'],
    ['host:5000/app:v1', 'host:5000/app', 'v1'],
    [`team/app@sha256:${HEX}`, 'team/app', `sha256:${HEX}`],
    // As everywhere: the digest counts.
    [`team/app:v1@sha256:${HEX}`, 'team/app', `sha256:${HEX}`],
  ] as const) {
    test(text, () => {
      const parsed = parseImageReference(text)
      assert.equal(parsed.name, name)
      assert.equal(
        parsed.reference.kind === 'tag' ? parsed.reference.tag : parsed.reference.digest,
        reference,
      )
    })
  }

  for (const text of [
    '',
    '/',
    'a/',
    '../x',
    'a//b',
    'a?b',
    'a b',
    `sha256:${HEX}@`,
    'app@v1',
    'app:',
    'UPPER',
    'a/%2e%2e/b',
  ]) {
    test(`refused: ${JSON.stringify(text)}`, () => assert.throws(() => parseImageReference(text)))
  }
})
