import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { quoted } from '@darter/oci'
import { OriginStatusError, OriginUnreachableError } from '@darter/origin'
import { answerTo, ERROR_TABLE } from '../src/doors/error-table.ts'
import { LoopDetectedError } from '../src/doors/errors.ts'
import { NoSourceError } from '../src/download/errors.ts'

const root = join(import.meta.dirname, '..', '..')
/** Passed on with the upstream's own status; and what can only happen before a door is open. */
const NOT_IN_TABLE = ['ORIGIN_STATUS', 'AUTHORITY_EXPIRED', 'STORE_LOCKED', 'STORE_VERSION']

test('every failure that a client can meet has a row, and every row a failure', () => {
  const named = new Set(['FST_ERR_BAD_URL', 'FST_ERR_NOT_FOUND'])
  for (const room of ['packages/oci', 'packages/origin', 'packages/store', 'peer']) {
    for (const file of globSync(`${room}/src/**/*.ts`, { cwd: root })) {
      const text = readFileSync(join(root, file), 'utf8')
      for (const [, code] of text.matchAll(/readonly code = '([A-Z_]+)'/g))
        if (code !== undefined) named.add(code)
    }
  }
  for (const code of NOT_IN_TABLE) assert.ok(named.delete(code), code)
  assert.deepEqual(Object.keys(ERROR_TABLE).toSorted(), [...named].toSorted())
})

function bodyOf(answer: ReturnType<typeof answerTo>): unknown {
  return JSON.parse(Buffer.from(answer.body).toString())
}

test('an upstream’s refusal is passed on with its challenge, and gets a body if it had none', () => {
  const challenge = 'Bearer realm="https://auth.example/token",service="r",scope="repository:x:pull"'
  const headers = { 'www-authenticate': challenge, 'alt-svc': 'h3=":443"', 'content-length': '0' }
  const bare = answerTo(new OriginStatusError('r: HEAD x', 401, headers, new Uint8Array()), 'manifest')
  assert.equal(bare.status, 401)
  assert.deepEqual(bare.headers, {
    'www-authenticate': challenge,
    'content-type': 'application/json; charset=utf-8',
  })
  assert.partialDeepStrictEqual(bodyOf(bare), { errors: [{ code: 'UNAUTHORIZED' }] })

  const own = new TextEncoder().encode('own words')
  const full = answerTo(new OriginStatusError('r', 418, { 'content-type': 'text/plain' }, own), 'blob')
  assert.deepEqual([full.status, full.headers, full.body], [418, { 'content-type': 'text/plain' }, own])
})

test('a 404 names what was asked for', () => {
  const missing = new OriginStatusError('r', 404, {}, new Uint8Array())
  for (const [subject, code] of [
    ['manifest', 'MANIFEST_UNKNOWN'],
    ['blob', 'BLOB_UNKNOWN'],
    ['name', 'NAME_UNKNOWN'],
  ] as const) {
    assert.partialDeepStrictEqual(bodyOf(answerTo(missing, subject)), { errors: [{ code }] })
  }
})

test('when no source is left, the last one’s answer is the client’s', () => {
  const refusal = new OriginStatusError('r', 429, { 'retry-after': '7' }, new Uint8Array())
  const answer = answerTo(new NoSourceError('x', refusal), 'blob')
  assert.equal(answer.status, 429)
  assert.equal(answer.headers['retry-after'], '7')
  assert.equal(answerTo(new NoSourceError('x', new OriginUnreachableError('gone')), 'blob').status, 503)
  assert.equal(answerTo(new NoSourceError('x', undefined), 'blob').status, 503)
})

test('an error that nobody named tells a client nothing', () => {
  const answer = answerTo(new Error('password=hunter2'), 'blob')
  assert.equal(answer.status, 500)
  assert.doesNotMatch(JSON.stringify(bodyOf(answer)), /hunter2/)
})

test('a named error says what happened', () => {
  const error = new LoopDetectedError('a.example')
  assert.deepEqual(bodyOf(answerTo(error, 'name')), {
    errors: [
      {
        code: 'UNSUPPORTED',
        message: `the upstream ${quoted('a.example')} leads back to this peer; point it at the registry itself`,
      },
    ],
  })
})
