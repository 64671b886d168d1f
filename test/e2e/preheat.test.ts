import assert from 'node:assert/strict'
import { test } from 'node:test'
import { requirePrograms, run, startRegistry, useLab } from '@darter/testing'
import { pullWithNode } from '../harness/clients/node.ts'
import { MAIN, startPeer, startScheduler, upstreamAt } from '../harness/darter.ts'
import { allDigests } from '../harness/expect.ts'
import { noiseImage } from '../harness/images.ts'
import { startMeter } from '../harness/meter.ts'
import { UPSTREAM } from '../harness/mirror.ts'
import { pushImage } from '../harness/push.ts'

const MIB = 1024 * 1024
const needed = requirePrograms(['docker-registry'])
const lab = useLab('preheat')

test(
  'a preheated image is pulled by peers while the registry is gone, and preheated again for free',
  needed,
  async () => {
    const registry = await startRegistry(lab)
    const meter = await startMeter(lab, registry.address)
    const image = noiseImage(lab.makeDir('image'), 'preheat', [5 * MIB, 3 * MIB])
    await pushImage(registry.url, 'library/app', 'one', image)
    const scheduler = await startScheduler(lab)
    const [warm, cold] = await Promise.all(
      ['warm', 'cold'].map(name =>
        startPeer(lab, {
          name,
          upstreams: [upstreamAt(meter.address)],
          scheduler,
          args: ['--tags-ttl', '1h'],
        }),
      ),
    )
    assert(warm && cold)
    const [, port = ''] = warm.mirror.address.split(':')
    const preheat = (args: readonly string[], codes: readonly number[]) =>
      run(process.execPath, [MAIN, 'preheat', '--door-port', port, ...args], { codes })

    const missing = await preheat([`${UPSTREAM}/library/app:absent`], [1])
    assert.match(missing.stderr, /^darter: \S/)
    const wrong = await preheat(['No Image'], [2])
    assert.match(wrong.stderr, /names no image/)

    const first = await preheat([`${UPSTREAM}/library/app:one`], [0])
    assert.match(first.stderr, new RegExp(`3 blobs, 8\\.00 MiB in .* s\\n${image.top.digest}\\n$`))
    meter.reset()
    await preheat([`${UPSTREAM}/library/app:one`, '--quiet'], [0])
    assert.deepEqual(
      meter.requests.map(({ path }) => path).filter(path => path.includes('/blobs/')),
      [],
    )

    await meter.stop()
    const pulled = await pullWithNode(cold.mirror, 'library/app', 'one')
    assert.deepEqual(new Set(pulled.digests.keys()), allDigests(image))
    const again = await pullWithNode(warm.mirror, 'library/app', 'one')
    assert.deepEqual(new Set(again.digests.keys()), allDigests(image))
  },
)
