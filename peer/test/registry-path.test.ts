import assert from 'node:assert/strict'
import { test } from 'node:test'
import { DarterError } from '@darter/oci'
import fc from 'fast-check'
import { parseRegistryPath } from '../src/doors/registry-path.ts'

const SHA = `sha256:${'a'.repeat(64)}`

const understood: readonly (readonly [string, Readonly<Record<string, unknown>>])[] = [
  ['/v2', { kind: 'root', name: undefined }],
  ['/v2/', { kind: 'root', name: undefined }],
  ['/v2/?ns=ghcr.io', { kind: 'root', name: undefined }],
  ['/v2/docker.io/', { kind: 'root', name: 'docker.io' }],
  ['/v2/_catalog?n=5', { kind: 'catalog', name: undefined }],
  ['/v2/docker.io/_catalog', { kind: 'catalog', name: 'docker.io' }],
  ['/v2/busybox/manifests/latest', { kind: 'manifest', name: 'busybox', tag: 'latest' }],
  ['/v2/a/b/c/manifests/v1.0_x-y', { kind: 'manifest', name: 'a/b/c', tag: 'v1.0_x-y' }],
  [`/v2/library/nginx/manifests/${SHA}`, { kind: 'manifest', name: 'library/nginx', digest: SHA }],
  [`/v2/x/manifests/${SHA.replace(':', '%3A')}`, { kind: 'manifest', name: 'x', digest: SHA }],
  [`/v2/x/manifests/${SHA.replace(':', '%3a')}`, { kind: 'manifest', name: 'x', digest: SHA }],
  ['/v2/127.0.0.1:5000/x/manifests/1', { kind: 'manifest', name: '127.0.0.1:5000/x', tag: '1' }],
  ['/v2/127.0.0.1%3A5000/x/manifests/1', { kind: 'manifest', name: '127.0.0.1:5000/x', tag: '1' }],
  [`/v2/x/blobs/${SHA}`, { kind: 'blob', name: 'x', digest: SHA }],
  ['/v2/x/blobs/uploads/', { kind: 'upload', name: 'x', id: undefined }],
  ['/v2/x/blobs/uploads', { kind: 'upload', name: 'x', id: undefined }],
  ['/v2/x/blobs/uploads/0d2-aB_c=.z', { kind: 'upload', name: 'x', id: '0d2-aB_c=.z' }],
  ['/v2/x/tags/list', { kind: 'tags', name: 'x' }],
  [`/v2/x/referrers/${SHA}?artifactType=a`, { kind: 'referrers', name: 'x', digest: SHA }],
  ['/v2/manifests/manifests/manifests', { kind: 'manifest', name: 'manifests', tag: 'manifests' }],
  ['/v2/a/blobs/tags/list/manifests/x', { kind: 'manifest', name: 'a/blobs/tags/list', tag: 'x' }],
]

for (const [url, target] of understood) {
  test(`${url} is understood`, () => {
    assert.deepEqual(parseRegistryPath(url).target, target)
  })
}

const refused: readonly (readonly [string, string])[] = [
  ['/', 'ROUTE_UNKNOWN'],
  ['/v1/_ping', 'ROUTE_UNKNOWN'],
  ['/v2x/', 'ROUTE_UNKNOWN'],
  ['/V2/', 'ROUTE_UNKNOWN'],
  ['http://other/v2/x/tags/list', 'ROUTE_UNKNOWN'],
  ['/v2/x', 'ROUTE_UNKNOWN'],
  ['/v2//', 'NAME_INVALID'],
  ['/v2/x/manifests/', 'TAG_INVALID'],
  ['/v2/x/manifests/.hidden', 'TAG_INVALID'],
  ['/v2/x/manifests/..', 'TAG_INVALID'],
  ['/v2/x/manifests/a%2Fb', 'TAG_INVALID'],
  ['/v2/x/manifests/a%00', 'TAG_INVALID'],
  [`/v2/x/manifests/sha256:${'A'.repeat(64)}`, 'DIGEST_INVALID'],
  [`/v2/x/manifests/sha256%253A${'a'.repeat(64)}`, 'TAG_INVALID'],
  [`/v2/x/blobs/sha256:${'a'.repeat(63)}`, 'DIGEST_INVALID'],
  [`/v2/x/blobs/md5:${'a'.repeat(32)}`, 'DIGEST_INVALID'],
  [`/v2/x/blobs/${SHA}/`, 'ROUTE_UNKNOWN'],
  [`/v2/X/blobs/${SHA}`, 'NAME_INVALID'],
  [`/v2/../x/blobs/${SHA}`, 'NAME_INVALID'],
  [`/v2/a/../b/blobs/${SHA}`, 'NAME_INVALID'],
  [`/v2/a/%2e%2e/b/blobs/${SHA}`, 'NAME_INVALID'],
  [`/v2/a%2Fb/blobs/${SHA}`, 'NAME_INVALID'],
  [`/v2/a//b/blobs/${SHA}`, 'NAME_INVALID'],
  [`/v2/a/b%5cc/blobs/${SHA}`, 'NAME_INVALID'],
  [`/v2/${'a'.repeat(256)}/blobs/${SHA}`, 'NAME_INVALID'],
  [`/v2/host:99999999/x/blobs/${SHA}`, 'NAME_INVALID'],
  [`/v2/a/%zz/blobs/${SHA}`, 'TARGET_INVALID'],
  [`/v2/a/%ff/blobs/${SHA}`, 'TARGET_INVALID'],
  ['/v2/x/blobs/uploads/..', 'ROUTE_UNKNOWN'],
  ['/v2/x/blobs/uploads/%2e%2e', 'ROUTE_UNKNOWN'],
  ['/v2/x/blobs/uploads/a%2Fb', 'ROUTE_UNKNOWN'],
  ['/v2/x/blobs/uploads/a/b', 'ROUTE_UNKNOWN'],
  [`/v2/x/tags/list?${'n'.repeat(9000)}`, 'TARGET_TOO_LONG'],
]

for (const [url, code] of refused) {
  test(`${url.slice(0, 60)} is refused with ${code}`, () => {
    assert.throws(
      () => parseRegistryPath(url),
      error => error instanceof DarterError && error.code === code,
    )
  })
}

const component = fc.stringMatching(/^[a-z0-9]+(?:(?:\.|_|__|-{1,3})[a-z0-9]+){0,2}$/, { maxLength: 20 })
const name = fc.array(component, { minLength: 1, maxLength: 5 }).map(parts => parts.join('/'))
const tag = fc.stringMatching(/^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,30}$/)

test('property: any repository and tag that the grammar allows come out as they went in', () => {
  fc.assert(
    fc.property(name, tag, (repository, reference) => {
      const { target } = parseRegistryPath(`/v2/${repository}/manifests/${reference}`)
      assert.deepEqual(target, { kind: 'manifest', name: repository, tag: reference })
    }),
    { seed: 7, numRuns: 500 },
  )
})

test('property: whatever is sent is refused by a named error or holds no way out of its path', () => {
  const piece = fc.oneof(
    component,
    fc.constantFrom(
      '..',
      '.',
      '',
      '%2e%2e',
      '%2F',
      '%5C',
      '%00',
      '%',
      'blobs',
      'uploads',
      'manifests',
      'tags',
    ),
    fc.constantFrom('list', 'referrers', SHA, '_catalog', 'docker.io', 'host:80', '\\', 'a b', 'ä'),
    fc.string({ maxLength: 8 }),
  )
  const url = fc.array(piece, { maxLength: 8 }).map(parts => `/v2/${parts.join('/')}`)
  fc.assert(
    fc.property(url, text => {
      try {
        const { target } = parseRegistryPath(text)
        const parts = 'name' in target && target.name !== undefined ? target.name.split('/') : []
        for (const part of parts) assert.match(part, /^[a-zA-Z0-9][a-zA-Z0-9._:-]*$/)
        assert.ok(!parts.includes('..'))
      } catch (error) {
        assert.ok(error instanceof DarterError, String(error))
      }
    }),
    { seed: 11, numRuns: 3000 },
  )
})
