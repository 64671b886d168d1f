import assert from 'node:assert/strict'
import { createLayoutOrigin, createRegistryOrigin, type Origin } from '@darter/origin'
import { createScratch, requirePrograms, startRegistry } from '@darter/testing'
import { declareConformance, readAll } from './conformance.ts'
import { type Content, makeImage, makeLayout, writeImage } from './image.ts'

const image = makeImage([3_000_000, 0, 70_000])

declareConformance('an image layout', false, image, async () => {
  const layout = await makeLayout()
  await writeImage(layout, image)
  const origin = createLayoutOrigin({ name: 'upstream', directory: layout.directory })
  return {
    origin,
    [Symbol.asyncDispose]: async () => {
      await origin.close()
      await layout[Symbol.asyncDispose]()
    },
  }
})

declareConformance('docker-registry', requirePrograms(['docker-registry']).skip, image, async () => {
  const lab = createScratch('conformance')
  const registry = await startRegistry(lab)
  const origin = createRegistryOrigin({ name: 'upstream', url: registry.url, loopMarker: 'darter-test' })
  for (const blob of [image.config, ...image.layers]) await pushBlob(origin, blob)
  await putManifest(origin, image.manifest, 'v1')
  await putManifest(origin, image.index, 'multi')
  return {
    origin,
    [Symbol.asyncDispose]: async () => {
      await origin.close()
      await lab.close()
    },
  }
})

/** As a client pushes: start, one streamed chunk, commit, each at the place that the last answer named. */
async function pushBlob(origin: Origin, { digest, bytes }: Content): Promise<void> {
  const { signal } = new AbortController()
  const send = async (method: string, path: string, headers: Record<string, string>, body?: Uint8Array) => {
    const answer = await origin.forward({ method, path, headers, signal, body: body && pieces(body) })
    await readAll(answer.body)
    const location = answer.headers['location']
    assert.ok(typeof location === 'string' && location.startsWith('/v2/library/app/'), String(location))
    return { status: answer.status, next: location.slice('/v2/'.length) }
  }
  const begun = await send('POST', 'library/app/blobs/uploads/', { 'content-length': '0' })
  assert.equal(begun.status, 202)
  const patched = await send('PATCH', begun.next, { 'content-type': 'application/octet-stream' }, bytes)
  assert.equal(patched.status, 202)
  const committed = await send('PUT', `${patched.next}&digest=${encodeURIComponent(digest)}`, {})
  assert.equal(committed.status, 201)
}

async function putManifest(origin: Origin, { bytes, mediaType }: Content, tag: string): Promise<void> {
  const answer = await origin.forward({
    method: 'PUT',
    path: `library/app/manifests/${tag}`,
    headers: { 'content-type': mediaType, 'content-length': String(bytes.byteLength) },
    body: pieces(bytes),
    signal: new AbortController().signal,
  })
  assert.equal(answer.status, 201, (await readAll(answer.body)).toString())
}

async function* pieces(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.byteLength; at += 65_536) yield bytes.subarray(at, at + 65_536)
}
