import assert from 'node:assert/strict'
import { join } from 'node:path'
import { afterEach, before, describe, test } from 'node:test'
import { systemClock } from '@darter/runtime'
import { type Registry, requirePrograms, startRegistry, useLab } from '@darter/testing'
import type { Facts } from '../src/download/contract.ts'
import { clusterFacts, memoryReads, startDoor, type TestDoor } from './support/door.ts'
import { OCI_MANIFEST, type PushedImage, pushImage } from './support/image.ts'

describe('an upstream that goes down', requirePrograms(['docker-registry']), () => {
  const lab = useLab('outage')
  let registry: Registry
  const open: TestDoor[] = []

  before(async () => {
    registry = await startRegistry(lab)
  })
  afterEach(async () => {
    for (const door of open.splice(0)) await door.stop()
    if (registry.daemon.ended !== undefined) await registry.start()
  })

  type DoorOptions = Omit<Parameters<typeof startDoor>[0], 'upstreams'>

  async function openDoor(options: DoorOptions = {}): Promise<TestDoor> {
    const upstreams = [{ name: 'docker.io', url: registry.url }]
    const door = await startDoor({ ...options, upstreams, default: 'docker.io' })
    open.push(door)
    return door
  }

  /** Pulls as a client does; returns the statuses and the warning on the tag. */
  async function pull(door: TestDoor, repository: string, image: PushedImage) {
    const base = `${door.url}/v2/${repository}`
    const head = await fetch(`${base}/manifests/v1`, { method: 'HEAD', headers: { accept: OCI_MANIFEST } })
    const manifest = await fetch(`${base}/manifests/${image.manifest}`)
    const bytes = await manifest.text()
    const layer = await fetch(`${base}/blobs/${image.layer}`)
    const body = Buffer.from(await layer.arrayBuffer())
    const config = await fetch(`${base}/blobs/${image.config}`)
    await config.arrayBuffer()
    assert.equal(bytes === image.manifestBytes, manifest.status === 200)
    assert.equal(body.equals(image.layerBytes), layer.status === 200)
    return {
      statuses: [head.status, manifest.status, layer.status, config.status],
      digest: head.headers.get('docker-content-digest'),
      warning: head.headers.get('warning'),
    }
  }

  const ALL_WELL = [200, 200, 200, 200]

  test('while the upstream is down, a tag is served as it last was, and marked', async () => {
    const image = await pushImage(`${registry.url}/v2/library/app`, 'v1')
    const door = await openDoor()
    assert.deepEqual(await pull(door, 'library/app', image), {
      statuses: ALL_WELL,
      digest: image.manifest,
      warning: null,
    })
    await registry.stop()
    const later = await pull(door, 'library/app', image)
    assert.deepEqual(later, {
      statuses: ALL_WELL,
      digest: image.manifest,
      warning: '110 - "Response is Stale"',
    })
    const line = await door.requestLine(({ stale }) => stale === true)
    assert.equal(line['tag'], 'v1')
    assert.match((await door.metrics.expose()).body, /darter_door_stale_answers_total\{kind="manifest"\} 1/)
    assert.ok(
      door.lines.some(({ msg, level }) => level === 'warn' && String(msg).includes('the upstream is down')),
    )
  })

  test('what was never seen is a clear failure while the upstream is down, and the API root says nothing of it', async () => {
    const door = await openDoor()
    await registry.stop()
    const answer = await fetch(`${door.url}/v2/library/unseen/manifests/v1`)
    assert.equal(answer.status, 503)
    assert.match(await answer.text(), /"code":"UNAVAILABLE"/)
    assert.equal((await fetch(`${door.url}/v2/`)).status, 200)
  })

  test('a restart while the upstream is down keeps what was public', async () => {
    const image = await pushImage(`${registry.url}/v2/library/kept`, 'v1')
    const catalogFile = join(lab.dir, 'kept', 'catalog')
    const reads = memoryReads()
    const first = await openDoor({ catalogFile, reads })
    assert.deepEqual((await pull(first, 'library/kept', image)).statuses, ALL_WELL)
    await first.stop()
    await registry.stop()
    const second = await openDoor({ catalogFile, reads })
    assert.deepEqual((await pull(second, 'library/kept', image)).statuses, ALL_WELL)
  })

  test('a tag that the upstream says is gone is not served when it goes down', async () => {
    const image = await pushImage(`${registry.url}/v2/library/removed`, 'v1')
    const door = await openDoor()
    const url = `${door.url}/v2/library/removed/manifests/v1`
    assert.equal((await fetch(url)).status, 200)
    const api = `${registry.url}/v2/library/removed/manifests/${image.manifest}`
    assert.equal((await fetch(api, { method: 'DELETE' })).status, 202)
    assert.equal((await fetch(url)).status, 404)
    await registry.stop()
    assert.equal((await fetch(url)).status, 503)
  })

  test('a resolved tag is used for its time without asking, and then asked for', async () => {
    const image = await pushImage(`${registry.url}/v2/library/short`, 'v1')
    let now = 1000
    const door = await openDoor({ tagTtlMs: 300, clock: { now: () => now, wall: systemClock.wall } })
    for (let n = 0; n < 3; n++) await pull(door, 'library/short', image)
    assert.equal(door.asked.filter(asked => asked === 'HEAD manifest').length, 1)
    now += 301
    await pull(door, 'library/short', image)
    assert.equal(door.asked.filter(asked => asked === 'HEAD manifest').length, 2)
  })

  test('many callers at once ask the upstream once', async () => {
    const image = await pushImage(`${registry.url}/v2/library/crowd`, 'v1')
    const door = await openDoor()
    const url = `${door.url}/v2/library/crowd/manifests`
    await Promise.all(
      Array.from({ length: 20 }, async () => (await fetch(`${url}/${image.manifest}`)).text()),
    )
    assert.equal(door.asked.filter(asked => asked === 'HEAD manifest').length, 1)
  })

  describe('a cluster', () => {
    const facts = clusterFacts()
    const reads = memoryReads()
    let image: PushedImage
    before(async () => {
      image = await pushImage(`${registry.url}/v2/library/shared`, 'v1', { salt: 'shared' })
      const first = await openDoor({ facts, reads, tagTtlMs: 60_000 })
      assert.deepEqual((await pull(first, 'library/shared', image)).statuses, ALL_WELL)
    })

    test('asks as often for eight peers as for one', async () => {
      const shared = { facts: clusterFacts(), reads: memoryReads() }
      const doors = await Promise.all(
        Array.from({ length: 8 }, () => openDoor({ ...shared, tagTtlMs: 60_000 })),
      )
      const pulls = await Promise.all(doors.map(door => pull(door, 'library/shared', image)))
      for (const { statuses } of pulls) assert.deepEqual(statuses, ALL_WELL)
      const heads = doors.flatMap(door => door.asked).filter(asked => asked.startsWith('HEAD'))
      assert.deepEqual(heads, ['HEAD manifest'])
    })

    test('a peer that never saw the image has it by tag while the upstream is down', async () => {
      await registry.stop()
      const door = await openDoor({ facts, reads })
      assert.deepEqual(await pull(door, 'library/shared', image), {
        statuses: ALL_WELL,
        digest: image.manifest,
        warning: null,
      })
      facts.expire()
      const later = await openDoor({ facts, reads })
      assert.deepEqual(await pull(later, 'library/shared', image), {
        statuses: ALL_WELL,
        digest: image.manifest,
        warning: '110 - "Response is Stale"',
      })
    })

    for (const kind of ['manifest', 'layer', 'config'] as const) {
      test(`and its ${kind} by digest alone`, async () => {
        await registry.stop()
        facts.expire()
        const door = await openDoor({ facts, reads })
        const path = kind === 'manifest' ? `manifests/${image.manifest}` : `blobs/${image[kind]}`
        for (const method of ['HEAD', 'GET']) {
          const answer = await fetch(`${door.url}/v2/library/shared/${path}`, { method })
          assert.equal(answer.status, 200, method)
          await answer.arrayBuffer()
        }
        const elsewhere = await fetch(`${door.url}/v2/library/elsewhere/${path}`)
        assert.equal(elsewhere.status, 503, 'it is not known to belong to another repository')
      })
    }

    test('what other peers tell is not believed unread', async () => {
      const lying: Facts = {
        resolve: async () => '{"digest":"sha256:../../etc/passwd","size":1,"mediaType":"a/b\\r\\nx: y"}',
        lastKnown: async () => 'garbage',
        publish: () => {},
      }
      const door = await openDoor({ facts: lying, reads })
      const { statuses, digest } = await pull(door, 'library/shared', image)
      assert.deepEqual(statuses, ALL_WELL)
      assert.equal(digest, image.manifest)
      await registry.stop()
      const unseen = await openDoor({ facts: lying })
      assert.equal((await fetch(`${unseen.url}/v2/library/shared/manifests/v1`)).status, 503)
    })
  })
})
