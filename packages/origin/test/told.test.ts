import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import { contradict, toldDigest, toldSize, toldValidator } from '../src/told.ts'

const hash = createHash('sha256').update('content').digest()
const hex = hash.toString('hex')
const base64 = hash.toString('base64')

test('a digest is taken from the headers that tell one of the whole content, and from no others', () => {
  const cases: readonly [number, Record<string, string>, boolean][] = [
    [302, { 'x-linked-etag': `"${hex}"` }, true],
    [200, { 'x-linked-etag': hex.toUpperCase() }, true],
    [200, { 'x-linked-etag': `"${hex.slice(0, 40)}"` }, false],
    [200, { 'docker-content-digest': `sha256:${hex}` }, true],
    [200, { 'repr-digest': `sha-512=:AAAA:, sha-256=:${base64}:` }, true],
    [206, { 'repr-digest': `sha-256=:${base64}:` }, true],
    [206, { 'content-digest': `sha-256=:${base64}:` }, false],
    [200, { 'x-amz-checksum-sha256': base64 }, true],
    [206, { 'x-amz-checksum-sha256': base64 }, false],
    [200, { 'x-amz-checksum-sha256': `${base64}-3` }, false],
    [200, { 'x-amz-checksum-sha256': base64, 'x-amz-checksum-type': 'COMPOSITE' }, false],
    [200, { etag: `"${hex}"` }, false],
    [200, {}, false],
  ]
  for (const [status, headers, told] of cases) {
    const expected = told ? `sha256:${hex}` : undefined
    assert.equal(toldDigest(status, headers), expected, JSON.stringify(headers))
  }
})

test('the size is that of the whole content', () => {
  assert.equal(toldSize(200, { 'content-length': '7' }), 7)
  assert.equal(toldSize(206, { 'content-length': '1', 'content-range': 'bytes 0-0/7' }), 7)
  assert.equal(toldSize(206, { 'content-range': 'bytes 0-0/*' }), undefined)
  assert.equal(toldSize(302, { 'content-length': '99', 'x-linked-size': '7' }), 7)
  assert.equal(toldSize(302, { 'content-length': '99' }), undefined)
})

test('only what tells versions apart for sure is a validator', () => {
  assert.equal(toldValidator({ etag: '"a"', 'last-modified': 'yesterday' }), 'etag "a"')
  assert.equal(toldValidator({ etag: 'W/"a"', 'last-modified': 'yesterday' }), 'modified yesterday')
  assert.equal(toldValidator({ etag: 'W/"a"' }), undefined)
  assert(contradict('etag "a"', 'etag "b"'))
  for (const other of ['etag "a"', 'modified today', undefined]) assert(!contradict('etag "a"', other))
  assert(!contradict(undefined, 'etag "a"'))
})
