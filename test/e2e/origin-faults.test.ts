import assert from 'node:assert/strict'
import { before, beforeEach, describe, test } from 'node:test'
import { type Registry, requirePrograms, startRegistry, useLab } from '@darter/testing'
import { pullWithNode, type Pulled, UnexpectedStatusError } from '../harness/clients/node.ts'
import { type Peer, startPeer, upstreamAt } from '../harness/darter.ts'
import { allDigests } from '../harness/expect.ts'
import { type Image, noiseImage } from '../harness/images.ts'
import { type FaultRule, isBlobGet, type Meter, startMeter } from '../harness/meter.ts'
import { pushImage } from '../harness/push.ts'

const MIB = 1024 * 1024
/** A pull that takes longer counts as hung; well under a minute, with retries and back-off. */
const PATIENCE_MS = 30_000

/** The first `count` GETs of blobs go wrong, the others well. */
function firstBlobs(count: number, fault: NonNullable<ReturnType<FaultRule>>): FaultRule {
  let seen = 0
  return request => (isBlobGet(request) && seen++ < count ? fault : undefined)
}

describe('an origin that misbehaves', requirePrograms(['docker-registry']), () => {
  const lab = useLab('origin-faults')
  let registry: Registry
  let meter: Meter
  let peer: Peer
  let image: Image
  let number = 0

  before(async () => {
    registry = await startRegistry(lab)
    meter = await startMeter(lab, registry.address)
    peer = await startPeer(lab, {
      name: 'peer',
      upstreams: [upstreamAt(meter.address)],
      args: ['--transfer-progress-timeout', '1s'],
    })
  })

  beforeEach(async () => {
    meter.setFault(undefined)
    number++
    image = noiseImage(lab.makeDir(`image-${number}`), `fault-${number}`, [6 * MIB, 3 * MIB, 900])
    await pushImage(registry.url, `library/app-${number}`, 'v1', image)
  })

  const pull = () =>
    pullWithNode(peer.mirror, `library/app-${number}`, 'v1', { signal: AbortSignal.timeout(PATIENCE_MS) })
  const assertWhole = (pulled: Pulled) => assert.deepEqual(new Set(pulled.digests.keys()), allDigests(image))

  const healed: [string, NonNullable<ReturnType<FaultRule>>][] = [
    ['stalls in the middle', { kind: 'stall', afterBytes: 100_000 }],
    ['stalls before the first byte', { kind: 'stall', afterBytes: 0 }],
    ['resets the connection', { kind: 'reset', afterBytes: 100_000 }],
    ['ends too early', { kind: 'truncate', afterBytes: 100_000 }],
    ['answers 503', { kind: 'status', status: 503 }],
    ['answers 500', { kind: 'status', status: 500 }],
    ['answers 429 with Retry-After', { kind: 'status', status: 429, headers: { 'retry-after': '1' } }],
  ]
  for (const [title, fault] of healed) {
    test(`an origin that ${title} at first: the response goes on`, async () => {
      meter.setFault(firstBlobs(2, fault))
      assertWhole(await pull())
    })
  }

  test('an origin that ignores ranges', async () => {
    meter.setFault(() => ({ kind: 'ignore-range' }))
    assertWhole(await pull())
    const own = meter.requests.filter(request => image.blobs.some(blob => request.path.includes(blob.digest)))
    const read = own.reduce((sum, request) => sum + request.bodyBytes, 0)
    // Four parallel reads find out; what each was sent until it broke off is lost: all of so small a blob at worst.
    assert(own.length <= 16, `${own.length} requests for ${image.blobs.length} blobs`)
    assert(read <= image.bytes * 5, `${(read / image.bytes).toFixed(2)}x of the image was read`)
  })

  test('an origin that ignores ranges and breaks off', async () => {
    let seen = 0
    meter.setFault(request => {
      if (!isBlobGet(request)) return undefined
      return seen++ < 2 ? { kind: 'reset', afterBytes: 200_000 } : { kind: 'ignore-range' }
    })
    assertWhole(await pull())
  })

  test('wrong bytes never complete a response, and are not kept', async () => {
    meter.setFault(firstBlobs(1, { kind: 'corrupt', atByte: 50_000 }))
    const first = await pull().catch((error: unknown) => error)
    if (first instanceof Error)
      assert.doesNotMatch(first.message, /wrong bytes/, 'a wrong byte was passed on')
    assertWhole(await pull())
    meter.setFault(() => ({ kind: 'status', status: 500 }))
    assertWhole(await pullWithNode(peer.mirror, `library/app-${number}`, image.top.digest))
  })

  test('an origin that always sends wrong bytes: the response is cut, nothing is kept', async () => {
    meter.setFault(request => (isBlobGet(request) ? { kind: 'corrupt', atByte: 300 } : undefined))
    const error = await pull().then(
      () => assert.fail('the pull of corrupt content succeeded'),
      (reason: unknown) => reason,
    )
    assert(error instanceof Error)
    assert.doesNotMatch(error.message, /wrong bytes/, 'a wrong byte was passed on as a whole response')
    assert.notEqual(error.name, 'TimeoutError', 'the pull hung')
    meter.setFault(undefined)
    // What was left of the corrupt content may cost each of the two layers one more response.
    const again = () => pull().catch(() => undefined)
    assertWhole((await again()) ?? (await again()) ?? (await pull()))
  })

  test('a refusal before the first byte reaches the client as it is', async () => {
    meter.setFault(request => (isBlobGet(request) ? { kind: 'status', status: 404 } : undefined))
    await assert.rejects(pull(), error => error instanceof UnexpectedStatusError && error.status === 404)
    meter.setFault(request => (isBlobGet(request) ? { kind: 'status', status: 403 } : undefined))
    await assert.rejects(pull(), error => error instanceof UnexpectedStatusError && error.status === 403)
  })

  test('an origin that fails for good ends the pull with an error, soon', async () => {
    for (const fault of [
      { kind: 'status', status: 503 },
      { kind: 'stall', afterBytes: 0 },
      { kind: 'reset', afterBytes: 0 },
    ] as const) {
      meter.setFault(request => (isBlobGet(request) ? fault : undefined))
      await assert.rejects(pull(), (error: Error) => error.name !== 'TimeoutError')
    }
    meter.setFault(undefined)
    assertWhole(await pull())
  })
})
