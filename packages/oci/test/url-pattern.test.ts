import assert from 'node:assert/strict'
import { test } from 'node:test'
import { allowedBy, formatUrlPattern, parseUrlPattern } from '@darter/oci'

const patterns = (...texts: string[]) =>
  texts.map(text => {
    const pattern = parseUrlPattern(text)
    assert(pattern, text)
    return pattern
  })

test('patterns are read and written the same', () => {
  for (const text of [
    'huggingface.co',
    '*.example.com',
    '*',
    'http://127.0.0.1:8080',
    'http://*:81',
    '[::1]:8443',
  ]) {
    assert.deepEqual(patterns(text).map(formatUrlPattern), [text])
  }
  assert.deepEqual(patterns('HTTPS://Example.COM:443/').map(formatUrlPattern), ['example.com'])
  for (const text of ['', 'a b', 'https://', 'ftp://a', 'a/path', '*a', 'a.*', 'a:99999', 'user@a', '*.']) {
    assert.equal(parseUrlPattern(text), undefined, text)
  }
})

test('scheme, host and port must fit, and the narrowest pattern counts', () => {
  const all = patterns('*', '*.example.com', 'a.example.com', 'http://plain.example:8080')
  const kind = (url: string) => allowedBy(all, new URL(url))?.kind
  assert.equal(kind('https://a.example.com/x?y'), 'host')
  assert.equal(kind('https://A.b.Example.com/'), 'domain')
  assert.equal(kind('https://example.com/'), 'any')
  assert.equal(kind('https://notexample.com/'), 'any')
  assert.equal(kind('https://a.example.com:444/'), undefined)
  assert.equal(kind('http://a.example.com/'), undefined)
  assert.equal(kind('http://plain.example:8080/'), 'host')
  assert.equal(kind('http://plain.example/'), undefined)
})
