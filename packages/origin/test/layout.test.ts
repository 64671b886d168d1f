import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdir, rename, rm, symlink, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { digestHex, MANIFEST_MEDIA_TYPES } from '@darter/oci'
import {
  createLayoutOrigin,
  type ForwardRequest,
  type Origin,
  OriginProtocolError,
  OriginStatusError,
  OriginUnreachableError,
} from '@darter/origin'
import { readAll, requestFor } from './conformance.ts'
import { contentOf, descriptorOf, jsonContent, makeImage, makeLayout, writeImage } from './image.ts'

const image = makeImage([5000])
const accept = MANIFEST_MEDIA_TYPES
const request = requestFor()
const asking = { ...request, accept }
const open = (directory: string): Origin =>
  createLayoutOrigin({ name: 'local', directory, progressTimeoutMs: 2000 })
const refused = (status: number) => (error: unknown) =>
  error instanceof OriginStatusError && error.status === status

async function ask(origin: Origin, path: string, change: Partial<ForwardRequest> = {}) {
  const { signal } = request
  const answer = await origin.forward({ method: 'GET', path, headers: {}, signal, ...change })
  const text = (await readAll(answer.body)).toString()
  return { status: answer.status, headers: answer.headers, body: text === '' ? undefined : JSON.parse(text) }
}

test('tags are read from names of every form', async () => {
  await using layout = await makeLayout()
  for (const content of [image.manifest, image.index]) await layout.add(content)
  await layout.setIndex([
    { content: image.manifest, name: 'anywhere' },
    { content: image.manifest, name: 'team/app:one' },
    { content: image.index, name: 'registry.test:5000/team/app:two' },
    { content: image.index, name: 'docker.io/library/nginx:1.2' },
    { content: image.index, name: 'not a name' },
    { content: image.index },
  ])
  const origin = open(layout.directory)
  const tagsOf = async (repository: string) => (await ask(origin, `${repository}/tags/list`)).body
  assert.deepEqual(await tagsOf('team/app'), { name: 'team/app', tags: ['anywhere', 'one', 'two'] })
  assert.deepEqual((await tagsOf('library/nginx')).tags, ['1.2', 'anywhere'])
  assert.deepEqual((await tagsOf('docker.io/library/nginx')).tags, ['1.2', 'anywhere'])
  const unknown = await ask(origin, 'other/app/tags/list')
  assert.equal(unknown.status, 404)
  assert.equal(unknown.body.errors[0].code, 'NAME_UNKNOWN')
  const { digest } = await origin.headManifest('two', { ...asking, repository: 'team/app' })
  assert.equal(digest, image.index.digest)
  await assert.rejects(origin.getManifest('one', { ...asking, repository: 'library/nginx' }), refused(404))
  await assert.rejects(
    origin.getManifest(image.manifest.digest, { ...asking, repository: 'other/app' }),
    refused(404),
  )
})

test('the only manifest of an index without names is latest', async () => {
  await using layout = await makeLayout()
  await layout.add(image.manifest)
  await layout.setIndex([{ content: image.manifest }])
  const origin = open(layout.directory)
  assert.equal((await origin.getManifest('latest', asking)).digest, image.manifest.digest)
  await layout.add(image.index)
  await layout.setIndex([{ content: image.manifest }, { content: image.index }])
  await assert.rejects(origin.getManifest('latest', asking), refused(404))
})

test('the index is read again when it changes, and its last state holds while it is half written', async () => {
  await using layout = await makeLayout()
  await writeImage(layout, image)
  const origin = open(layout.directory)
  await assert.rejects(origin.headManifest('v2', asking), refused(404))
  await layout.setIndex([{ content: image.manifest, name: 'v2' }])
  assert.equal((await origin.headManifest('v2', asking)).digest, image.manifest.digest)
  await writeFile(join(layout.directory, 'index.json'), '{"schemaVersion": 2, "manif')
  assert.equal((await origin.headManifest('v2', asking)).digest, image.manifest.digest)
})

test('an index of the same size and another time is read again', async () => {
  await using layout = await makeLayout()
  await writeImage(layout, image)
  const origin = open(layout.directory)
  await layout.setIndex([{ content: image.manifest, name: 'aa' }])
  await origin.headManifest('aa', asking)
  await layout.setIndex([{ content: image.manifest, name: 'bb' }])
  await utimes(join(layout.directory, 'index.json'), 1, 1)
  await origin.headManifest('bb', asking)
})

test('a directory that is no layout is unreachable, and says why', async () => {
  for (const { spoil, expected } of [
    { spoil: (at: string) => rm(at, { recursive: true }), expected: /ENOENT/ },
    { spoil: (at: string) => rm(join(at, 'oci-layout')), expected: /no file "oci-layout"/ },
    { spoil: (at: string) => writeFile(join(at, 'oci-layout'), '{}'), expected: /version 1/ },
    { spoil: (at: string) => rm(join(at, 'index.json')), expected: /no file "index.json"/ },
    { spoil: (at: string) => writeFile(join(at, 'index.json'), '{'), expected: /malformed/ },
  ]) {
    await using layout = await makeLayout()
    await writeImage(layout, image)
    await spoil(layout.directory)
    await assert.rejects(open(layout.directory).getManifest('v1', asking), error => {
      assert.ok(error instanceof OriginUnreachableError, String(error))
      assert.match(error.message, expected)
      return true
    })
  }
})

test('links that lead out, directories and pipes are not read', async () => {
  await using outside = await makeLayout()
  await using layout = await makeLayout()
  await writeImage(layout, image)
  const secret = contentOf(Buffer.from('not yours'), 'x')
  await outside.add(secret)
  const at = (hex: string) => join(layout.directory, 'blobs', 'sha256', hex)
  const secretFile = join(outside.directory, 'blobs', 'sha256', digestHex(secret.digest))
  const origin = open(layout.directory)

  await symlink(secretFile, at(digestHex(secret.digest)))
  await assert.rejects(origin.openBlob(secret.digest, request), /leads out of the directory/)
  await assert.rejects(origin.headBlob(secret.digest, request), OriginProtocolError)
  await assert.rejects(origin.getManifest(secret.digest, asking), OriginProtocolError)

  const directory = contentOf(Buffer.from('a directory'), 'x')
  await mkdir(at(digestHex(directory.digest)))
  await assert.rejects(origin.openBlob(directory.digest, request), OriginProtocolError)

  const pipe = contentOf(Buffer.from('a pipe'), 'x')
  execFileSync('sh', ['-c', 'mkfifo "$1"', 'sh', at(digestHex(pipe.digest))])
  await assert.rejects(origin.openBlob(pipe.digest, request), OriginProtocolError)

  await rename(join(layout.directory, 'blobs'), join(layout.directory, 'inner'))
  await symlink(join(outside.directory, 'blobs'), join(layout.directory, 'blobs'))
  await assert.rejects(origin.openBlob(secret.digest, request), OriginProtocolError)
})

test('links within the directory are followed', async () => {
  await using layout = await makeLayout()
  await writeImage(layout, image)
  await rename(join(layout.directory, 'blobs'), join(layout.directory, 'elsewhere'))
  await symlink('elsewhere', join(layout.directory, 'blobs'))
  assert.equal((await open(layout.directory).getManifest('v1', asking)).digest, image.manifest.digest)
})

test('a manifest file that holds something else is refused; a blob that is no manifest is none', async () => {
  await using layout = await makeLayout()
  await writeImage(layout, image)
  const origin = open(layout.directory)
  const [layer] = image.layers
  await assert.rejects(origin.getManifest(layer?.digest ?? '', asking), refused(404))
  await writeFile(
    join(layout.directory, 'blobs', 'sha256', digestHex(image.manifest.digest)),
    image.index.bytes,
  )
  await assert.rejects(origin.getManifest('v1', asking), OriginProtocolError)
})

test('tag lists are paged', async () => {
  await using layout = await makeLayout()
  await layout.add(image.manifest)
  await layout.setIndex(['c', 'a', 'b', 'B'].map(name => ({ content: image.manifest, name })))
  const origin = open(layout.directory)
  const seen: string[] = []
  let path = 'x/tags/list?n=3'
  for (;;) {
    const { body, headers } = await ask(origin, path)
    seen.push(...body.tags)
    const next = /^<\/v2\/(.*)>; rel="next"$/.exec(String(headers['link']))?.[1]
    if (next === undefined) break
    path = next
  }
  assert.deepEqual(seen, ['B', 'a', 'b', 'c'])
  assert.deepEqual((await ask(origin, 'x/tags/list?n=0')).body.tags, [])
  assert.deepEqual((await ask(origin, 'x/tags/list?last=b')).body.tags, ['c'])
  assert.equal((await ask(origin, 'x/tags/list?n=-1')).status, 400)
})

test('referrers are listed and filtered by type', async () => {
  await using layout = await makeLayout()
  await writeImage(layout, image)
  const subject = descriptorOf(image.manifest)
  const base = { schemaVersion: 2, config: descriptorOf(image.config), layers: [], subject }
  const signature = jsonContent(
    { ...base, artifactType: 'test/signature', annotations: { by: 'me' } },
    accept[1],
  )
  const plain = jsonContent(base, accept[1])
  for (const content of [signature, plain]) await layout.add(content)
  await layout.setIndex([
    { content: image.manifest, name: 'v1' },
    { content: signature },
    { content: plain },
    { content: image.index },
  ])
  const origin = open(layout.directory)
  const all = await ask(origin, `any/referrers/${image.manifest.digest}`)
  assert.equal(all.status, 200)
  assert.equal(all.headers['content-type'], accept[0])
  assert.deepEqual(all.body, {
    schemaVersion: 2,
    mediaType: accept[0],
    manifests: [
      { ...descriptorOf(signature), artifactType: 'test/signature', annotations: { by: 'me' } },
      { ...descriptorOf(plain), artifactType: image.config.mediaType },
    ],
  })
  const filtered = await ask(origin, `any/referrers/${image.manifest.digest}?artifactType=test%2Fsignature`)
  assert.equal(filtered.headers['oci-filters-applied'], 'artifactType')
  assert.equal(filtered.body.manifests.length, 1)
  assert.deepEqual((await ask(origin, `any/referrers/${image.index.digest}`)).body.manifests, [])
  assert.equal((await ask(origin, 'any/referrers/sha256:0')).status, 400)
})

test('a directory answers what it can and takes nothing', async () => {
  await using layout = await makeLayout()
  await writeImage(layout, image)
  const origin = open(layout.directory)
  assert.equal(origin.isPublic, true)
  const head = await ask(origin, 'a/tags/list', { method: 'HEAD' })
  assert.equal(head.body, undefined)
  assert.notEqual(head.headers['content-length'], '0')
  for (const [method, path] of [
    ['POST', 'a/blobs/uploads/'],
    ['PUT', 'a/manifests/v1'],
    ['DELETE', 'a/manifests/v1'],
    ['GET', '_catalog'],
    ['PATCH', ''],
  ] as const) {
    const answer = await ask(origin, path, { method })
    assert.equal(answer.status, 405, `${method} ${path}`)
    assert.equal(answer.body.errors[0].code, 'UNSUPPORTED')
  }
  assert.equal((await ask(origin, 'A/tags/list')).status, 400)
})
