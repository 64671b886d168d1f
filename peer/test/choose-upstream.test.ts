import assert from 'node:assert/strict'
import { test } from 'node:test'
import { DarterError } from '@darter/oci'
import type { Origin } from '@darter/origin'
import { chooseUpstream, type UpstreamHints } from '../src/doors/choose-upstream.ts'
import { forwardedQuery, linkThroughDoor, locationThroughDoor } from '../src/doors/rewrite.ts'
import { createUpstreams, type Upstream } from '../src/upstreams.ts'

const unused = (): never => {
  throw new Error('choosing an upstream asks nobody')
}

function upstream(name: string, hosts: readonly string[] = []): Upstream {
  const origin: Origin = {
    name,
    description: name,
    isPublic: false,
    headManifest: unused,
    getManifest: unused,
    headBlob: unused,
    openBlob: unused,
    forward: unused,
    close: unused,
  }
  return { name, hosts, origin, hasCredentials: false, isPublic: false }
}

const docker = upstream('docker.io', ['index.docker.io', 'registry-1.docker.io'])
const ghcr = upstream('ghcr.io')
const local = upstream('127.0.0.1:5000')
const upstreams = createUpstreams({ upstreams: [docker, ghcr, local], default: 'docker.io' })
const noDefault = createUpstreams({ upstreams: [ghcr] })

function hints(change: Partial<Omit<UpstreamHints, 'query'>> & { readonly query?: string }): UpstreamHints {
  const { query = '', ...rest } = change
  return { name: undefined, header: undefined, port: undefined, ...rest, query: new URLSearchParams(query) }
}

const chosen: readonly {
  readonly id: string
  readonly input: Parameters<typeof hints>[0]
  readonly upstream: Upstream
  readonly repository: string | undefined
  readonly prefix?: string
}[] = [
  { id: 'the default', input: { name: 'library/x' }, upstream: docker, repository: 'library/x' },
  { id: 'a one-word name of the default', input: { name: 'x' }, upstream: docker, repository: 'x' },
  { id: 'the path', input: { name: 'ghcr.io/a/b' }, upstream: ghcr, repository: 'a/b', prefix: 'ghcr.io/' },
  {
    id: 'the path with a port',
    input: { name: '127.0.0.1:5000/x' },
    upstream: local,
    repository: 'x',
    prefix: '127.0.0.1:5000/',
  },
  {
    id: 'a one-word name of Docker Hub in the path',
    input: { name: 'docker.io/busybox' },
    upstream: docker,
    repository: 'library/busybox',
    prefix: 'docker.io/',
  },
  {
    id: 'a further name in the path',
    input: { name: 'index.docker.io/a/b' },
    upstream: docker,
    repository: 'a/b',
    prefix: 'index.docker.io/',
  },
  { id: 'ns', input: { name: 'a/b', query: 'ns=ghcr.io' }, upstream: ghcr, repository: 'a/b' },
  { id: 'ns in upper case', input: { name: 'a/b', query: 'ns=GHCR.IO' }, upstream: ghcr, repository: 'a/b' },
  {
    id: 'ns with a port',
    input: { name: 'x', query: 'ns=127.0.0.1%3A5000' },
    upstream: local,
    repository: 'x',
  },
  {
    id: 'the path before ns',
    input: { name: 'ghcr.io/a', query: 'ns=docker.io' },
    upstream: ghcr,
    repository: 'a',
    prefix: 'ghcr.io/',
  },
  {
    id: 'a name with a dot below ns',
    input: { name: 'my.org/a', query: 'ns=ghcr.io' },
    upstream: ghcr,
    repository: 'my.org/a',
  },
  { id: 'the header', input: { name: 'a', header: 'ghcr.io' }, upstream: ghcr, repository: 'a' },
  {
    id: 'a URL in the header',
    input: { name: 'a', header: 'https://ghcr.io/' },
    upstream: ghcr,
    repository: 'a',
  },
  {
    id: 'Docker Hub by its host in the header',
    input: { name: 'library/a', header: 'https://index.docker.io' },
    upstream: docker,
    repository: 'library/a',
  },
  {
    id: 'ns before the header',
    input: { name: 'a', query: 'ns=ghcr.io', header: 'docker.io' },
    upstream: ghcr,
    repository: 'a',
  },
  {
    id: 'the header before the port',
    input: { name: 'a', header: 'ghcr.io', port: local },
    upstream: ghcr,
    repository: 'a',
  },
  { id: 'the port before the default', input: { name: 'a', port: local }, upstream: local, repository: 'a' },
  { id: 'the API root', input: {}, upstream: docker, repository: undefined },
  { id: 'the API root by ns', input: { query: 'ns=ghcr.io' }, upstream: ghcr, repository: undefined },
]

for (const { id, input, upstream: expected, repository, prefix = '' } of chosen) {
  test(`chosen: ${id}`, () => {
    const choice = chooseUpstream(hints(input), upstreams)
    assert.equal(choice.upstream.name, expected.name)
    assert.equal(choice.repository, repository)
    assert.equal(choice.form.prefix, prefix)
  })
}

const refused = [
  { id: 'an unknown ns', input: { name: 'a', query: 'ns=evil.example' }, code: 'UPSTREAM_NOT_ALLOWED' },
  { id: 'a URL as ns', input: { name: 'a', query: 'ns=http://ghcr.io' }, code: 'UPSTREAM_NOT_ALLOWED' },
  {
    id: 'an unknown header',
    input: { name: 'a', header: 'http://evil.example' },
    code: 'UPSTREAM_NOT_ALLOWED',
  },
  { id: 'an unknown host in the path', input: { name: 'evil.example/a' }, code: 'UPSTREAM_NOT_ALLOWED' },
  { id: 'an unknown port in the path', input: { name: '127.0.0.1:22/a' }, code: 'UPSTREAM_NOT_ALLOWED' },
  { id: 'localhost in the path', input: { name: 'localhost/a' }, code: 'UPSTREAM_NOT_ALLOWED' },
  {
    id: 'an unknown ns, although the port is known',
    input: { name: 'a', query: 'ns=x', port: local },
    code: 'UPSTREAM_NOT_ALLOWED',
  },
  { id: 'two ns', input: { name: 'a', query: 'ns=ghcr.io&ns=docker.io' }, code: 'TARGET_INVALID' },
]

for (const { id, input, code } of refused) {
  test(`refused: ${id}`, () => {
    assert.throws(
      () => chooseUpstream(hints(input), upstreams),
      error => error instanceof DarterError && error.code === code,
    )
  })
}

test('without a default, a request that names no upstream is told which there are', () => {
  assert.throws(() => chooseUpstream(hints({ name: 'a' }), noDefault), /ghcr\.io/)
})

test('a table of upstreams refuses two with one name and a default that is not there', () => {
  assert.throws(() => createUpstreams({ upstreams: [ghcr, ghcr] }), RangeError)
  assert.throws(() => createUpstreams({ upstreams: [ghcr], default: 'docker.io' }), RangeError)
})

test('the query goes on byte for byte without ns, and a mount comes from below the prefix', () => {
  const form = { prefix: 'docker.io/', ns: 'docker.io' }
  assert.equal(forwardedQuery('_state=a%2Bb-_==&ns=docker.io&n=1', form), '_state=a%2Bb-_==&n=1')
  assert.equal(
    forwardedQuery('mount=sha256%3Aa&from=docker.io%2Flibrary%2Fx', form),
    'mount=sha256%3Aa&from=library%2Fx',
  )
  assert.equal(forwardedQuery('from=other/x', form), 'from=other/x')
  assert.equal(forwardedQuery('', form), '')
})

test('a location comes back through the door in the form of the request', () => {
  const at = '/v2/library/x/blobs/uploads/1?_state=z'
  assert.equal(locationThroughDoor(at, { prefix: '', ns: undefined }), at)
  assert.equal(
    locationThroughDoor(at, { prefix: 'docker.io/', ns: undefined }),
    '/v2/docker.io/library/x/blobs/uploads/1?_state=z',
  )
  assert.equal(locationThroughDoor(at, { prefix: '', ns: '127.0.0.1:5000' }), `${at}&ns=127.0.0.1%3A5000`)
  assert.equal(locationThroughDoor('/v2/x/y', { prefix: '', ns: 'a' }), '/v2/x/y?ns=a')
  assert.equal(
    locationThroughDoor('https://elsewhere/v2/x', { prefix: 'a/', ns: 'a' }),
    'https://elsewhere/v2/x',
  )
  assert.equal(
    linkThroughDoor('</v2/x/tags/list?last=a&n=1>; rel="next"', { prefix: 'ghcr.io/', ns: undefined }),
    '</v2/ghcr.io/x/tags/list?last=a&n=1>; rel="next"',
  )
})
