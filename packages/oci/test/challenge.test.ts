import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { MAX_CHALLENGE_HEADER, parseChallenges } from '../src/index.ts'

const SEED = { seed: 20_263 }
const token = fc.stringMatching(/^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,12}$/)
const value = fc.string({ unit: fc.constantFrom('a', '"', '\\', ',', ' ', '=', 'ü', '\t'), maxLength: 12 })
const challenge = fc.record({
  scheme: token,
  params: fc.uniqueArray(fc.tuple(token, value), { maxLength: 4, selector: ([key]) => key.toLowerCase() }),
})

const plain = (header: string): object[] =>
  parseChallenges(header).map(({ scheme, params }) => ({ scheme, params: Object.fromEntries(params) }))

test('the challenges that registries send', () => {
  assert.deepEqual(
    plain(
      'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/nginx:pull,push"',
    ),
    [
      {
        scheme: 'bearer',
        params: {
          realm: 'https://auth.docker.io/token',
          service: 'registry.docker.io',
          scope: 'repository:library/nginx:pull,push',
        },
      },
    ],
  )
  assert.deepEqual(plain('Basic realm="Registry Realm"'), [
    { scheme: 'basic', params: { realm: 'Registry Realm' } },
  ])
})

test('the example of RFC 9110 11.6.1, with several challenges in one header', () => {
  assert.deepEqual(plain('Basic realm="simple", Newauth realm="apps", type=1, title="Login to \\"apps\\""'), [
    { scheme: 'basic', params: { realm: 'simple' } },
    { scheme: 'newauth', params: { realm: 'apps', type: '1', title: 'Login to "apps"' } },
  ])
})

test('schemes without parameters, token68, empty elements and odd spacing', () => {
  assert.deepEqual(plain('Negotiate, Basic realm=x'), [
    { scheme: 'negotiate', params: {} },
    { scheme: 'basic', params: { realm: 'x' } },
  ])
  assert.deepEqual(plain('Negotiate YWJj==, Basic realm = "x" , , charset=UTF-8,'), [
    { scheme: 'negotiate', params: {} },
    { scheme: 'basic', params: { realm: 'x', charset: 'UTF-8' } },
  ])
})

test('what follows a malformed part is left out', () => {
  assert.deepEqual(plain('Basic realm="x", Bearer realm="open'), [
    { scheme: 'basic', params: { realm: 'x' } },
    { scheme: 'bearer', params: {} },
  ])
  assert.deepEqual(plain('"x"'), [])
  assert.deepEqual(plain('realm="x"'), [])
  assert.deepEqual(plain(''), [])
})

test('whatever is written by the grammar is read back', () => {
  fc.assert(
    fc.property(fc.array(challenge, { maxLength: 4 }), challenges => {
      const header = challenges
        .map(({ scheme, params }) =>
          `${scheme} ${params.map(([key, text]) => `${key}="${text.replace(/["\\]/g, '\\$&')}"`).join(', ')}`.trim(),
        )
        .join(', ')
      assert.deepEqual(
        parseChallenges(header).map(({ scheme, params }) => ({ scheme, params: [...params] })),
        challenges.map(({ scheme, params }) => ({
          scheme: scheme.toLowerCase(),
          params: params.map(([key, text]) => [key.toLowerCase(), text]),
        })),
      )
    }),
    { ...SEED, numRuns: 500 },
  )
})

test('any text is read without a throw and in bounded time', () => {
  fc.assert(
    fc.property(
      fc.string({ unit: fc.constantFrom('a', '=', '"', '\\', ',', ' ', '\n', '€'), maxLength: 60 }),
      header => {
        for (const { scheme } of parseChallenges(header)) assert.match(scheme, /^a+$/)
      },
    ),
    { ...SEED, numRuns: 2000 },
  )
  for (const hostile of ['a="', 'a,', ' ,', 'a =', '"\\', 'a ']) {
    parseChallenges(`Basic ${hostile.repeat(MAX_CHALLENGE_HEADER)}`.slice(0, MAX_CHALLENGE_HEADER))
  }
  assert.deepEqual(parseChallenges(`Basic realm="${'x'.repeat(MAX_CHALLENGE_HEADER)}"`), [])
})
