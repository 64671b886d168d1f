import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import { createLogger, systemClock as clock } from '@darter/runtime'
import { createMemoryStore } from '@darter/store'
import { until } from '@darter/testing'
import type { Caller } from '../src/access/caller.ts'
import { LayerHints } from '../src/download/layer-hints.ts'
import { createHintRecall, createManifests, openCatalog } from '../src/tags/index.ts'
import { acceptedTypes, acceptMask } from '../src/tags/accept.ts'
import { lonelyFacts, memoryReads, startDoor } from './support/door.ts'
import { digestOf, OCI_MANIFEST } from './support/image.ts'

const log = createLogger({ level: 'silent', name: 'test' })
const signal = new AbortController().signal

/** Manifests that are all held, so that the upstream behind the caller is never asked. */
async function holding(bodies: readonly string[]) {
  const reads = memoryReads()
  for (const body of bodies) reads.held.set(digestOf(body), Buffer.from(body))
  const catalog = await openCatalog({ clock, log })
  const hints = new LayerHints()
  const manifests = createManifests({
    reads,
    catalog,
    facts: lonelyFacts,
    hints,
    clock,
    log,
    accessTtlMs: 1000,
  })
  const door = await startDoor({ upstreams: [{ name: 'a.example', url: 'http://127.0.0.1:1' }] })
  const upstream = door.upstreams.find('a.example')
  await door.stop()
  assert.ok(upstream)
  const caller: Caller = { upstream, repository: 'x' }
  return { manifests, catalog, hints, caller, reads }
}

const layer = digestOf('layer')
const image = JSON.stringify({
  schemaVersion: 2,
  config: { mediaType: 'application/vnd.oci.image.config.v1+json', digest: digestOf('config'), size: 6 },
  layers: [{ mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip', digest: layer, size: 12_345 }],
})

test('a manifest names its repository’s content, and is read once for each repository', async () => {
  const { manifests, catalog, caller, reads } = await holding([image])
  const loaded = await manifests.load(caller, digestOf(image), {}, signal)
  assert.equal(loaded.mediaType, OCI_MANIFEST)
  assert.equal(loaded.sources.fromDisk, image.length)
  assert.equal(catalog.member({ upstream: 'a.example', repository: 'x' }, layer)?.size, 12_345)
  assert.equal(catalog.member({ upstream: 'a.example', repository: 'y' }, layer), undefined)
  reads.held.clear()
  const again = await manifests.load(caller, digestOf(image), {}, signal)
  assert.deepEqual([again.bytes, again.sources.fromDisk], [loaded.bytes, 0])
  await manifests.load({ ...caller, repository: 'y' }, digestOf(image), {}, signal)
  assert.equal(catalog.member({ upstream: 'a.example', repository: 'y' }, layer)?.size, 12_345)
})

test('what a manifest tells of its layers’ formats is remembered', async () => {
  const annotations = { 'containerd.io/snapshot/stargz/toc.digest': digestOf('toc') }
  const lazy = image.replace(
    `"digest":"${layer}"`,
    `"digest":"${layer}","annotations":${JSON.stringify(annotations)}`,
  )
  const { manifests, hints, caller } = await holding([image, lazy])
  await manifests.load(caller, digestOf(image), {}, signal)
  assert.equal(hints.of(layer), undefined)
  await manifests.load(caller, digestOf(lazy), {}, signal)
  assert.deepEqual(hints.of(layer), { format: 'estargz' })
})

test('a media type that is no header’s value never becomes one', async () => {
  const odd = JSON.stringify({ schemaVersion: 2, mediaType: 'application/x\r\nevil: yes' })
  const { manifests, catalog, caller } = await holding([odd])
  const loaded = await manifests.load(caller, digestOf(odd), {}, signal)
  assert.equal(loaded.mediaType, 'application/octet-stream')
  const member = catalog.member({ upstream: 'a.example', repository: 'x' }, digestOf(odd))
  assert.equal(member?.mediaType, 'application/octet-stream')
})

test('a manifest that cannot be read is passed on as it is', async () => {
  const { manifests, caller } = await holding(['no JSON'])
  const loaded = await manifests.load(caller, digestOf('no JSON'), { mediaType: 'application/x' }, signal)
  assert.equal(Buffer.from(loaded.bytes).toString(), 'no JSON')
  assert.equal(loaded.mediaType, 'application/x')
})

test('an Accept header counts by what it lists, in whatever order', () => {
  const oci = 'application/vnd.oci.image.manifest.v1+json'
  const docker = 'application/vnd.docker.distribution.manifest.v2+json'
  assert.equal(acceptMask(`${oci}, ${docker};q=0.5`), acceptMask(`${docker},${oci.toUpperCase()}`))
  assert.deepEqual(acceptedTypes(acceptMask(`${docker},${oci}`)), [oci, docker])
  for (const all of [undefined, '', '*/*', `${oci}, */*;q=0.1`, 'text/html']) {
    assert.equal(acceptedTypes(acceptMask(all)).length, 4, String(all))
  }
})

test('what the manifests in the store tell of layers is known again after a start', async () => {
  const annotations = { 'containerd.io/snapshot/stargz/toc.digest': digestOf('toc') }
  const lazy = image.replace('"size":12345', `"size":12345,"annotations":${JSON.stringify(annotations)}`)
  const place = { upstream: 'a.example', repository: 'x' }
  const catalog = await openCatalog({ clock, log })
  const store = createMemoryStore({ quotaBytes: 1e9, clock })
  const put = async (body: string) => {
    const bytes = Buffer.from(body)
    const stored = await store.open(digestOf(body), bytes.length)
    await stored.writeChunk(0, bytes, createHash('sha256').update(bytes).digest())
    await stored.markComplete('digest')
    stored.release()
    catalog.setManifest(
      place,
      digestOf(body),
      { size: bytes.length, mediaType: OCI_MANIFEST, children: [] },
      true,
    )
  }
  await put('no manifest')
  await put(lazy)
  catalog.setManifest(place, digestOf('gone'), { size: 4, mediaType: OCI_MANIFEST, children: [] }, true)
  const hints = new LayerHints()
  const recall = createHintRecall({ store, catalog, hints, log })
  await recall.start()
  await until('it is known', () => hints.of(layer) !== undefined)
  assert.deepEqual(hints.of(layer), { format: 'estargz' })
  await recall.stop(AbortSignal.timeout(1000))
  await store.close()
})
