import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, afterEach, before, describe, test } from 'node:test'
import { REALM, type Registry, requirePrograms, startRegistry, useLab } from '@darter/testing'
import { clusterFacts, memoryReads, startDoor, type TestDoor } from './support/door.ts'
import { type PushedImage, pushImage } from './support/image.ts'

const basic = (user: string, password: string) => ({
  authorization: `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`,
})
const ALICE = basic('alice', 'correct-horse')
const MALLORY = basic('mallory', 'guess')
const CHALLENGE = `Basic realm="${REALM}"`

describe('a private registry', requirePrograms(['docker-registry', 'htpasswd']), () => {
  const lab = useLab('private')
  let registry: Registry
  let image: PushedImage
  let door: TestDoor
  const open: TestDoor[] = []

  before(async () => {
    registry = await startRegistry(lab, { auth: { htpasswd: { alice: 'correct-horse' } } })
    image = await pushImage(`${registry.url}/v2/team/app`, 'v1', { headers: ALICE })
    door = await openDoor()
  })
  after(async () => {
    for (const one of open.splice(0)) await one.stop()
  })
  afterEach(async () => {
    await registry.stop()
    await registry.start()
  })

  async function openDoor(options: Partial<Parameters<typeof startDoor>[0]> = {}): Promise<TestDoor> {
    const upstreams = [{ name: 'corp.example', url: registry.url }]
    const opened = await startDoor({ upstreams, default: 'corp.example', ...options })
    open.push(opened)
    return opened
  }

  const paths = () => [
    `manifests/v1`,
    `manifests/${image.manifest}`,
    `blobs/${image.layer}`,
    `blobs/${image.config}`,
  ]

  async function statuses(at: TestDoor, headers: Record<string, string>, method = 'GET'): Promise<number[]> {
    const found: number[] = []
    for (const path of paths()) {
      const answer = await fetch(`${at.url}/v2/team/app/${path}`, { method, headers })
      await answer.arrayBuffer()
      found.push(answer.status)
    }
    return found
  }

  test('the API root passes the challenge on, for each caller its own answer', async () => {
    for (let again = 0; again < 2; again++) {
      const refused = await fetch(`${door.url}/v2/`)
      assert.equal(refused.status, 401)
      assert.equal(refused.headers.get('www-authenticate'), CHALLENGE)
      assert.equal((await fetch(`${door.url}/v2/`, { headers: ALICE })).status, 200)
      assert.equal((await fetch(`${door.url}/v2/`, { headers: MALLORY })).status, 401)
    }
  })

  test('what is cached for one caller is the upstream’s own 401 for the others', async () => {
    assert.deepEqual(await statuses(door, ALICE), [200, 200, 200, 200])
    assert.ok(door.reads.isHeld(image.layer))
    for (const headers of [{}, MALLORY]) {
      for (const method of ['GET', 'HEAD']) {
        assert.deepEqual(await statuses(door, headers, method), [401, 401, 401, 401])
      }
      const refused = await fetch(`${door.url}/v2/team/app/blobs/${image.layer}`, { headers })
      assert.equal(refused.headers.get('www-authenticate'), CHALLENGE)
      assert.match(await refused.text(), /"code":"UNAUTHORIZED"/)
    }
    assert.deepEqual(await statuses(door, ALICE), [200, 200, 200, 200])
  })

  test('a caller’s right is asked about once in its time', async () => {
    const fresh = await openDoor()
    await statuses(fresh, ALICE)
    const before = fresh.asked.length
    for (const path of paths().slice(1)) {
      await (await fetch(`${fresh.url}/v2/team/app/${path}`, { headers: ALICE })).arrayBuffer()
    }
    assert.equal(fresh.asked.length, before)
  })

  test('a right that was taken away is gone when its time is over, and one that is given back counts', async () => {
    const soon = await openDoor({ accessTtlMs: 1 })
    assert.deepEqual(await statuses(soon, ALICE), [200, 200, 200, 200])
    await registry.setPasswords({ bob: 'x' })
    assert.deepEqual(await statuses(soon, ALICE), [401, 401, 401, 401])
    await registry.stop()
    assert.deepEqual(await statuses(soon, ALICE), [503, 503, 503, 503], 'the last word counts')
    await registry.start()
    await registry.setPasswords({ alice: 'correct-horse' })
    assert.deepEqual(await statuses(soon, ALICE), [200, 200, 200, 200])
  })

  test('while the upstream is down, who was let in recently goes on, and nobody else', async () => {
    assert.deepEqual(await statuses(door, ALICE), [200, 200, 200, 200])
    await registry.stop()
    assert.deepEqual(await statuses(door, ALICE), [200, 200, 200, 200])
    for (const status of await statuses(door, basic('eve', 'x'))) assert.equal(status, 503)
    for (const status of await statuses(door, {})) assert.ok(status === 401 || status === 503, String(status))
  })

  test('nothing of a private repository outlives the program or reaches the cluster', async () => {
    const facts = clusterFacts()
    const reads = memoryReads()
    const catalogFile = join(lab.dir, 'catalog')
    const first = await openDoor({ facts, reads, catalogFile })
    assert.deepEqual(await statuses(first, ALICE), [200, 200, 200, 200])
    await first.stop()
    await registry.stop()
    const again = await openDoor({ facts, reads, catalogFile })
    const stranger = await openDoor({ facts, reads })
    for (const at of [again, stranger]) {
      for (const headers of [{}, MALLORY, ALICE]) {
        assert.deepEqual(await statuses(at, headers), [503, 503, 503, 503])
      }
    }
  })

  test('the upstream’s configured credentials serve callers without any, and are shared with nobody', async () => {
    const facts = clusterFacts()
    const reads = memoryReads()
    const { authorization } = ALICE
    const bare = (await openDoor()).upstreams.find('corp.example')
    assert.ok(bare)
    const origin = {
      ...bare.origin,
      headManifest: ((reference, request) =>
        bare.origin.headManifest(reference, {
          ...request,
          authorization: request.authorization ?? authorization,
        })) satisfies typeof bare.origin.headManifest,
      getManifest: ((reference, request) =>
        bare.origin.getManifest(reference, {
          ...request,
          authorization: request.authorization ?? authorization,
        })) satisfies typeof bare.origin.getManifest,
      openBlob: ((digest, request) =>
        bare.origin.openBlob(digest, {
          ...request,
          authorization: request.authorization ?? authorization,
        })) satisfies typeof bare.origin.openBlob,
    }
    const upstreams = [{ name: 'corp.example', url: registry.url, origin, hasCredentials: true }]
    const rich = await openDoor({ upstreams, facts, reads })
    assert.deepEqual(await statuses(rich, {}), [200, 200, 200, 200])
    assert.deepEqual(await statuses(rich, MALLORY), [401, 401, 401, 401])
    assert.equal((await fetch(`${rich.url}/v2/`)).status, 200)
    const poor = await openDoor({ facts, reads })
    assert.deepEqual(await statuses(poor, {}), [401, 401, 401, 401])
  })

  test('credentials are in no line of the log', () => {
    const text = JSON.stringify(open.flatMap(one => one.lines))
    for (const secret of [ALICE.authorization, MALLORY.authorization, 'correct-horse', 'Basic ']) {
      assert.ok(!text.replaceAll('Basic realm', '').includes(secret), 'a secret was logged')
    }
  })
})
