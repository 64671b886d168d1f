import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { before, describe, test } from 'node:test'
import { requirePrograms, until, useLab } from '@darter/testing'
import { curl } from '../harness/clients/curl.ts'
import { type Peer, type Scheduler, startPeer, startScheduler } from '../harness/darter.ts'
import { noise } from '../harness/images.ts'
import { type Meter, startMeter } from '../harness/meter.ts'
import { basic, type Login } from '../harness/mirror.ts'
import { type FileServer, startFileServer } from '../harness/nginx.ts'

const MIB = 1024 * 1024
const ALICE: Login = { username: 'alice', password: 'opensesame-7731' }

const sha256 = (bytes: Uint8Array) => `sha256:${createHash('sha256').update(bytes).digest('hex')}`
const door = (peer: Peer, url: string) => `http://${peer.mirror.address}/url/${encodeURIComponent(url)}`
const wanted = (digest: string) => ['--header', `X-Darter-Digest: ${digest}`]

describe('seeds and the content of URLs', requirePrograms(['nginx', 'curl']), () => {
  const lab = useLab('seeds-urls')
  let files: FileServer
  let scheduler: Scheduler
  /** Before the server of files: what the seeds read of it, and what the peers do. */
  let near: Meter
  let far: Meter
  let seeds: readonly Peer[]
  let peers: readonly Peer[]

  const start = (name: string, args: readonly string[] = []): Promise<Peer> =>
    startPeer(lab, {
      name,
      upstreams: [],
      scheduler,
      args: ['--url-allow', near.url, '--url-allow', far.url, ...args],
    })

  before(async () => {
    files = await startFileServer(lab, { login: ALICE })
    near = await startMeter(lab, files.address)
    far = await startMeter(lab, files.address)
    scheduler = await startScheduler(lab)
    seeds = await Promise.all(['seed-1', 'seed-2'].map(name => start(name, ['--seed'])))
    peers = await Promise.all(['a', 'b', 'c'].map(name => start(name)))
  })

  const calls = async (outcome: string): Promise<number> => {
    const counts = seeds.map(seed => seed.metric('darter_seed_calls_total', { outcome }))
    return (await Promise.all(counts)).reduce((a, b) => a + b, 0)
  }
  const pull = async (url: string, bytes: Buffer, args: readonly string[] = []): Promise<number> => {
    const started = performance.now()
    const answers = await Promise.all(
      peers.map(peer => curl(door(peer, url), [...wanted(sha256(bytes)), ...args])),
    )
    for (const { status, body } of answers) {
      assert.equal(status, 200)
      assert(body.equals(bytes))
    }
    return (performance.now() - started) / 1000
  }

  test('a seed brings a cold URL for all, once, and keeps it', async context => {
    const model = noise('model', 24 * MIB)
    files.put('models/a.bin', model)
    await pull(`${near.url}/models/a.bin`, model)
    const ratio = near.bodyBytes() / model.length
    await until('a seed holds it', async () => (await calls('held')) === 1)
    const read = await Promise.all(
      seeds.map(seed => seed.metric('darter_received_bytes_total', { source: 'origin' })),
    )
    context.diagnostic(`origin ${ratio.toFixed(3)}x, seeds read ${read.map(Math.round).join(' and ')} bytes`)
    assert(ratio <= 1.05, `the origin sent ${ratio.toFixed(3)}x`)

    near.reset()
    await Promise.all(peers.map(peer => peer.daemon.stop()))
    peers = [await start('late')]
    await pull(`${near.url}/models/a.bin`, model)
    assert.equal(near.bodyBytes(), 0)
  })

  test('what a seed may not read the peers read at once, and nobody is told what may be a secret', async context => {
    const secret = noise('secret', 12 * MIB)
    files.put('private/secret.bin', secret)
    const authorization = ['--header', `Authorization: ${basic(ALICE)}`]
    const before = await calls('refused')
    const seconds = await pull(`${far.url}/private/secret.bin`, secret, authorization)
    context.diagnostic(`refused to the seeds: ${seconds.toFixed(2)} s`)
    await until('it was refused', async () => (await calls('refused')) > before)
    const asked = await scheduler.metric('darter_scheduler_seed_calls_total')

    const signed = noise('signed', 5 * MIB)
    files.put('signed.bin', signed)
    await pull(`${far.url}/signed.bin?token=s3cr3t`, signed)
    assert.equal(await scheduler.metric('darter_scheduler_seed_calls_total'), asked)
    for (const program of [scheduler, ...seeds]) {
      const text = JSON.stringify(program.log())
      for (const word of ['s3cr3t', ALICE.password, basic(ALICE).slice(6)]) assert(!text.includes(word))
    }
  })
})
