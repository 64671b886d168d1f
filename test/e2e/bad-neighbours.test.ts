import assert from 'node:assert/strict'
import { join } from 'node:path'
import { before, describe, test } from 'node:test'
import { type Daemon, type Registry, requirePrograms, startRegistry, useLab } from '@darter/testing'
import type { BadPeerOptions, Misdeed } from '../harness/bad-peer.ts'
import { pullWithNode } from '../harness/clients/node.ts'
import { type Scheduler, startPeer, startScheduler, upstreamAt } from '../harness/darter.ts'
import { allDigests } from '../harness/expect.ts'
import { noiseImage } from '../harness/images.ts'
import { type Meter, startMeter } from '../harness/meter.ts'
import { pushImage } from '../harness/push.ts'

const MIB = 1024 * 1024
const PROGRAM = join(import.meta.dirname, '..', 'harness', 'bad-peer.ts')

describe('neighbours that misbehave', requirePrograms(['docker-registry']), () => {
  const lab = useLab('bad-neighbours')
  let registry: Registry
  let meter: Meter
  let scheduler: Scheduler

  before(async () => {
    registry = await startRegistry(lab)
    meter = await startMeter(lab, registry.address)
    scheduler = await startScheduler(lab)
  })

  const startBadPeer = (
    options: Pick<BadPeerOptions, 'misdeed' | 'digest' | 'blobFile'>,
  ): Promise<Daemon> => {
    const name = `bad-peer-${options.misdeed}`
    const argument: BadPeerOptions = {
      ...options,
      schedulerAddress: scheduler.address,
      clusterKeyFile: scheduler.clusterKeyFile,
      identityFile: join(lab.makeDir(name), 'identity'),
    }
    return lab.start({
      name,
      command: process.execPath,
      args: [PROGRAM, JSON.stringify(argument)],
      ready: daemon => daemon.stdout().length > 0,
    })
  }

  const cases: readonly [Misdeed, string][] = [
    ['wrong-bytes', 'wrong-bytes'],
    ['wrong-hashes', 'wrong-bytes'],
    ['stalls', 'stalled'],
    ['vanishes', 'vanished'],
  ]
  for (const [misdeed, deed] of cases) {
    test(`a neighbour of the kind "${misdeed}": the pull ends well, and the neighbour is named`, async context => {
      const image = noiseImage(lab.makeDir(misdeed), misdeed, [24 * MIB])
      const repository = `library/${misdeed}`
      await pushImage(registry.url, repository, 'v1', image)
      const [layer] = image.manifests[0]?.layers ?? []
      assert(layer)
      const blobFile = join(image.dir, 'blobs', 'sha256', layer.digest.slice(7))
      const bad = await startBadPeer({ misdeed, digest: layer.digest, blobFile })
      const badId = bad.stdout().split('\n')[0]
      const victim = await startPeer(lab, {
        name: `victim-${misdeed}`,
        upstreams: [upstreamAt(meter.address)],
        scheduler,
      })
      const served = () => bad.stdout().split('served\n').length - 1
      const pull = () =>
        pullWithNode(victim.mirror, repository, 'v1', { signal: AbortSignal.timeout(40_000) })
      const started = performance.now()
      // A lie that only the whole blob's digest shows may cost the first response, but never completes one.
      const first = await pull().catch((error: unknown) => error)
      const seconds = ((performance.now() - started) / 1000).toFixed(1)
      assert(served() > 0, 'the bad neighbour was never asked, so this shows nothing')
      if (first instanceof Error) {
        assert.equal(misdeed, 'wrong-hashes', first.message)
        assert.doesNotMatch(first.message, /wrong bytes/, 'a wrong byte was passed on')
        assert.notEqual(first.name, 'TimeoutError')
      }
      const pulled = await pull()
      assert.deepEqual(new Set(pulled.digests.keys()), allDigests(image))
      context.diagnostic(
        `${first instanceof Error ? `first pull cut (${first.message})` : 'first pull whole'} after ${seconds} s; the bad neighbour was asked ${served()} times`,
      )
      const named = victim.log().some(line => line['peer'] === badId && line['deed'] === deed)
      assert(named, `no line of the log names ${badId} for ${deed}`)
      assert(
        (await victim.metric('darter_neighbour_failures_total', { deed, peer: badId ?? '' })) > 0,
        'no metric counts it',
      )
      await victim.daemon.stop()
      await bad.stop()
    })
  }
})
