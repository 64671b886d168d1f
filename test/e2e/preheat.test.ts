import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { test } from 'node:test'
import { ownEnvironment, requirePrograms, run, startRegistry, until, useLab } from '@darter/testing'
import { pullWithNode } from '../harness/clients/node.ts'
import { MAIN, startPeer, startScheduler, upstreamAt } from '../harness/darter.ts'
import { allDigests } from '../harness/expect.ts'
import { buildImage, noiseImage, noiseLayer } from '../harness/images.ts'
import { startMeter } from '../harness/meter.ts'
import { basic, type Login, UPSTREAM } from '../harness/mirror.ts'
import { pushImage } from '../harness/push.ts'

const MIB = 1024 * 1024
const needed = requirePrograms(['docker-registry', 'htpasswd'])
const ALICE: Login = { username: 'alice', password: 'opensesame-7731' }
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
    assert.match(missing.stderr, /^darter: the upstream.*\/manifests\/absent was answered with status 404$/m)
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

test(
  'a private image of one platform comes with the caller’s right alone; an interrupted run is gone on with',
  needed,
  async () => {
    const registry = await startRegistry(lab, {
      name: 'private',
      auth: { htpasswd: { [ALICE.username]: ALICE.password } },
    })
    const meter = await startMeter(lab, registry.address)
    const image = buildImage(lab.makeDir('platforms'), {
      format: 'oci',
      platforms: ['amd64', 'arm64'].map(architecture => ({
        architecture,
        layers: [noiseLayer(architecture, 12 * MIB)],
      })),
    })
    await pushImage(registry.url, 'team/secret', 'v1', image, { authorization: basic(ALICE) })
    const peer = await startPeer(lab, { name: 'alone', upstreams: [upstreamAt(meter.address)] })
    const [, port = ''] = peer.mirror.address.split(':')
    const args = [
      MAIN,
      'preheat',
      `${UPSTREAM}/team/secret:v1`,
      '--door-port',
      port,
      '--platform',
      'linux/arm64',
    ]
    const allowed = [...args, '--header', `Authorization: ${basic(ALICE)}`]

    const refused = await run(process.execPath, args, { codes: [1] })
    assert.match(refused.stderr, /^darter: .*\(it wants credentials: --header\)/)
    const other = await run(process.execPath, [...allowed, '--platform', 'linux/s390x'], { codes: [1] })
    assert.match(other.stderr, /the image has no linux\/s390x; it has linux\/amd64, linux\/arm64/)

    meter.setRate(4 * MIB)
    const child = spawn(process.execPath, allowed, { stdio: 'ignore', env: ownEnvironment() })
    const fromOrigin = { source: 'origin' }
    await until(
      'some bytes',
      async () => (await peer.metric('darter_received_bytes_total', fromOrigin)) > 4 * MIB,
    )
    child.kill('SIGINT')
    const [code] = (await once(child, 'close')) as [number]
    assert.equal(code, 130)
    meter.setRate(undefined)

    const arm = image.manifests.find(({ architecture }) => architecture === 'arm64')
    const done = await run(process.execPath, allowed, { codes: [0] })
    assert(arm && done.stderr.endsWith(`\n${arm.digest}\n`))
    const wanted = new Set([arm.config, ...arm.layers].map(({ digest }) => digest))
    const asked = new Set(
      meter.requests.flatMap(({ path }) => path.match(/\/blobs\/(sha256:.*)$/)?.[1] ?? []),
    )
    assert.deepEqual(asked, wanted, 'the other platform was read too')
    assert(!JSON.stringify(peer.log()).includes(ALICE.password))
    assert(!JSON.stringify(peer.log()).includes(basic(ALICE)))
  },
)
