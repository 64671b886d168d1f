import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { before, describe, test } from 'node:test'
import { ownEnvironment, requirePrograms, run, startRegistry, until, useLab } from '@darter/testing'
import { pullWithNode } from '../harness/clients/node.ts'
import { MAIN, type Peer, type Scheduler, startPeer, startScheduler, upstreamAt } from '../harness/darter.ts'
import { allDigests } from '../harness/expect.ts'
import { buildImage, type Image, noiseImage, noiseLayer } from '../harness/images.ts'
import { listen } from '../harness/listen.ts'
import { isBlobGet, type Meter, startMeter } from '../harness/meter.ts'
import { basic, type Login, UPSTREAM } from '../harness/mirror.ts'
import { pushImage } from '../harness/push.ts'

const MIB = 1024 * 1024
const ALICE: Login = { username: 'alice', password: 'opensesame-7731' }
const needed = requirePrograms(['docker-registry', 'htpasswd'])

interface View {
  readonly id: string
  readonly state: string
  readonly peers: readonly {
    readonly id: string
    readonly zone: string
    readonly state: string
    readonly held: number
    readonly size: number
    readonly failures: readonly { readonly what: string; readonly code: string; readonly message: string }[]
  }[]
}

describe('preheating a cluster', needed, () => {
  const lab = useLab('preheat-cluster')
  let meter: Meter
  let scheduler: Scheduler
  /** The first one is a seed; the last one is in another zone. */
  let peers: Peer[]
  let url: string
  /** A server of plain files, and how often it sent this content. */
  let files: string
  let reads = 0
  const content = randomBytes(200_000)
  /** What it gives out once `open` is called. */
  const held = randomBytes(200_000)
  const { promise: isOpen, resolve: open } = Promise.withResolvers<void>()

  const token = () => readFileSync(join(scheduler.dataDir, 'admin.token'), 'utf8').trim()
  const api = (path: string, options: RequestInit = {}, bearer = token()) =>
    fetch(`http://127.0.0.1:${scheduler.adminPort}${path}`, {
      ...options,
      headers: {
        authorization: `Bearer ${bearer}`,
        ...(options.body !== undefined && { 'content-type': 'application/json' }),
      },
    })
  const view = async (id: string) => (await (await api(`/preheats/${id}`)).json()) as View
  const start = async (body: object): Promise<string> => {
    const answer = await api('/preheats', { method: 'POST', body: JSON.stringify(body) })
    const { id } = (await answer.json()) as View
    assert.equal(answer.status, 201)
    assert.equal(answer.headers.get('location'), `/preheats/${id}`)
    return id
  }
  const end = async (id: string): Promise<View> => {
    await until('the preheat is over', async () => (await view(id)).state !== 'running')
    return view(id)
  }
  const command = (args: readonly string[], codes: readonly number[], onStderr?: (text: string) => void) =>
    run(
      process.execPath,
      [
        ...[MAIN, 'preheat', '--data-dir', scheduler.dataDir],
        ...['--scheduler-admin-port', `${scheduler.adminPort}`, ...args],
      ],
      { codes, ...(onStderr !== undefined && { onStderr }) },
    )
  const push = async (repository: string, layers: readonly number[]): Promise<Image> => {
    const image = noiseImage(lab.makeDir(repository.replace('/', '-')), repository, layers)
    await pushImage(url, repository, 'v1', image, { authorization: basic(ALICE) })
    return image
  }
  /** What the scheduler has on disk of each job. */
  const onDisk = () => {
    const directory = join(scheduler.dataDir, 'preheats')
    return readdirSync(directory).map(name => readFileSync(join(directory, name), 'utf8'))
  }
  const secrets = () => [ALICE.password, basic(ALICE), basic(ALICE).slice('Basic '.length), token()]
  const header = ['--header', `Authorization: ${basic(ALICE)}`]
  const reference = (repository: string) => `${UPSTREAM}/${repository}:v1`

  before(async () => {
    const registry = await startRegistry(lab, { auth: { htpasswd: { [ALICE.username]: ALICE.password } } })
    url = registry.url
    meter = await startMeter(lab, registry.address)
    scheduler = await startScheduler(lab)
    const server = createServer((request, response) => {
      const isHeld = request.url === '/held.bin'
      const body = isHeld ? held : content
      if (request.method === 'GET') reads++
      response.writeHead(200, { 'content-length': body.length, etag: '"1"' })
      if (request.method === 'HEAD') response.end()
      else if (isHeld) void isOpen.then(() => response.end(body))
      else response.end(body)
    })
    files = `http://127.0.0.1:${await listen(lab, server)}`
    peers = await Promise.all(
      [['--seed'], ['--zone', 'near'], ['--zone', 'near'], ['--zone', 'far']].map((args, i) =>
        startPeer(lab, {
          name: `peer-${i}`,
          upstreams: [upstreamAt(meter.address)],
          scheduler,
          args: [...args, '--tags-ttl', '1h', '--url-allow', files],
        }),
      ),
    )
  })

  const holders = async (image: Image): Promise<number[]> => {
    const blobs = await Promise.all(peers.map(peer => peer.metric('darter_store_bytes')))
    return blobs.map(bytes => Math.floor(bytes / image.bytes))
  }

  test('a private image comes to seeds, to a zone, to some and to all, once from its origin; again for free', async context => {
    const image = await push('team/app', [6 * MIB, 5 * MIB, 3 * MIB])
    meter.reset()
    const bytes = () => meter.bodyBytes(isBlobGet) / image.bytes

    const refused = await command([reference('team/app'), '--to', 'seeds'], [1])
    assert.match(refused.stderr, /^darter: \w+: .*: .*401/m)
    assert.deepEqual(await holders(image), [0, 0, 0, 0])

    const seeds = await command([reference('team/app'), '--to', 'seeds', ...header], [0])
    assert.match(seeds.stderr, /done 14\.0 MiB of 14\.0 MiB\n/)
    assert.match(seeds.stderr, /: 14\.0 MiB at 1 of 1 peers in .* s\n$/)
    assert.deepEqual(await holders(image), [1, 0, 0, 0])
    const zone = await command([reference('team/app'), '--to', 'zone=near', '--quiet', ...header], [0])
    assert.equal(zone.stderr, '')
    assert.deepEqual(await holders(image), [1, 1, 1, 0])
    const all = await start({ target: reference('team/app'), to: 'all', authorization: basic(ALICE) })
    const { state, peers: parts } = await end(all)
    assert.equal(state, 'done')
    assert.deepEqual(
      new Set(parts.map(part => `${part.state} ${part.held - part.size}`)),
      new Set(['done 0']),
    )
    assert.deepEqual(await holders(image), [1, 1, 1, 1])
    context.diagnostic(`4 peers, one after the other: origin ${bytes().toFixed(3)}x`)
    assert(bytes() < 1.01, `the origin sent ${bytes()}x`)

    meter.reset()
    await command([reference('team/app'), '--to', 'all', ...header], [0])
    const some = await command([reference('team/app'), '--to', 'n=2', ...header], [0])
    assert.match(some.stderr, / at 2 of 2 peers /)
    assert.deepEqual(
      meter.requests.filter(isBlobGet).map(({ path }) => path),
      [],
    )
    const pulled = await pullWithNode(peers[3]!.mirror, 'team/app', 'v1', {
      headers: { authorization: basic(ALICE) },
    })
    assert.deepEqual(new Set(pulled.digests.keys()), allDigests(image))
  })

  test('one platform of an index, one blob, and a URL by its digest', async () => {
    const image = buildImage(lab.makeDir('platforms'), {
      format: 'oci',
      platforms: ['amd64', 'arm64'].map(architecture => ({
        architecture,
        layers: [noiseLayer(architecture, 2 * MIB)],
      })),
    })
    await pushImage(url, 'team/multi', 'v1', image, { authorization: basic(ALICE) })
    meter.reset()
    await command([reference('team/multi'), '--platform', 'linux/arm64', '--to', 'all', ...header], [0])
    const arm = image.manifests.find(({ architecture }) => architecture === 'arm64')
    const amd = image.manifests.find(({ architecture }) => architecture === 'amd64')
    assert(arm && amd)
    const asked = () => new Set(meter.requests.flatMap(({ path }) => /\/blobs\/(.*)$/.exec(path)?.[1] ?? []))
    assert.deepEqual(asked(), new Set([arm.config, ...arm.layers].map(({ digest }) => digest)))

    const [layer] = amd.layers
    await command([`${UPSTREAM}/team/multi@${layer!.digest}`, '--to', 'all', ...header], [0])
    assert(asked().has(layer!.digest))
    const none = await command(
      [reference('team/multi'), '--platform', 'linux/s390x', '--to', 'n=1', ...header],
      [1],
    )
    assert.match(none.stderr, /the image has no linux\/s390x; it has linux\/amd64, linux\/arm64/)

    const digest = `sha256:${createHash('sha256').update(content).digest('hex')}`
    const target = `${files}/model.bin`
    const unknown = await command([target, '--to', 'all'], [1])
    assert.match(unknown.stderr, /say which digest it has/)
    await command([target, '--digest', digest, '--to', 'all'], [0])
    assert.equal(reads, 1)

    // The peer of this machine takes the same targets.
    const door = ['--door-port', peers[0]!.mirror.address.split(':')[1]!]
    const other = `${target}?other`
    const nobody = await command([other, ...door], [1])
    assert.match(nobody.stderr, /no digest of the content.*--digest/)
    reads = 0
    await command([other, '--digest', digest, ...door], [0])
    await command([other, '--digest', digest, ...door], [0])
    assert.equal(reads, 1)
    const blob = await command([`${UPSTREAM}/team/multi@${layer!.digest}`, ...door, ...header], [0])
    assert.match(blob.stderr, /: 1 blob, 2\.00 MiB in .* s\nsha256:/)
  })

  test('a job can be watched and cancelled; an interrupted command cancels', async () => {
    const image = await push('team/slow', [24 * MIB])
    meter.setRate(2 * MIB)
    const id = await start({ target: reference('team/slow'), to: 'all', authorization: basic(ALICE) })
    const events = await api(`/preheats/${id}/events`)
    assert.match(events.headers.get('content-type') ?? '', /^text\/event-stream/)
    const texts: string[] = []
    const decoder = new TextDecoder()
    let cancelled = false
    for await (const part of events.body as AsyncIterable<Uint8Array>) {
      texts.push(decoder.decode(part, { stream: true }))
      if (!cancelled && /"held":[1-9]/.test(texts.join(''))) {
        cancelled = true
        assert.equal((await api(`/preheats/${id}`, { method: 'DELETE' })).status, 200)
      }
    }
    const views = texts
      .join('')
      .split('\n\n')
      .filter(event => event.startsWith('data: '))
      .map(event => JSON.parse(event.slice('data: '.length)) as View)
    assert.equal(views[0]?.peers.length, 4)
    assert.equal(views.at(-1)?.state, 'cancelled')
    await until('the downloads ended', async () => {
      const running = await Promise.all(peers.map(peer => peer.metric('darter_downloads')))
      return running.every(count => count === 0)
    })
    assert(meter.bodyBytes(isBlobGet) < image.bytes)

    const child = spawn(
      process.execPath,
      [
        ...[MAIN, 'preheat', '--data-dir', scheduler.dataDir, '--scheduler-admin-port'],
        ...[`${scheduler.adminPort}`, reference('team/slow'), '--to', 'all', ...header],
      ],
      { stdio: ['ignore', 'ignore', 'pipe'], env: ownEnvironment() },
    )
    let said = ''
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      said += text
    })
    await until('it tells how it goes on', () => said.includes('running'))
    child.kill('SIGINT')
    const [code] = (await once(child, 'close')) as [number]
    assert.equal(code, 130)
    assert.match(said, /interrupted; the preheat is cancelled/)
    const { preheats } = (await (await api('/preheats')).json()) as { preheats: View[] }
    assert.equal(preheats.at(-1)?.state, 'cancelled')
    meter.setRate(undefined)
    await command([reference('team/slow'), '--to', 'all', ...header], [0])
  })

  test('a peer that is lost, and one that comes back, are told of', async () => {
    await push('team/lost', [16 * MIB])
    meter.setRate(3 * MIB)
    const id = await start({ target: reference('team/lost'), to: 'all', authorization: basic(ALICE) })
    await until('all are at it', async () => (await view(id)).peers.every(({ state }) => state === 'running'))
    await peers[3]!.restart('SIGKILL')
    meter.setRate(undefined)
    const { state, peers: parts } = await end(id)
    assert.deepEqual([state, ...parts.map(part => part.state)], ['done', 'done', 'done', 'done', 'done'])
  })

  test('a scheduler that is killed in the middle: the command goes on when it is back, with what the peers have', async context => {
    const image = await push('team/restart', [16 * MIB, 8 * MIB])
    meter.reset()
    meter.setRate(4 * MIB)
    const running = command([reference('team/restart'), '--to', 'all', ...header], [0])
    await until('a part is there', () => meter.bodyBytes(isBlobGet) > 5 * MIB)
    const kept = onDisk().filter(text => text.includes('"running"'))
    assert.equal(kept.length, 1)
    for (const secret of secrets()) assert(!kept[0]?.includes(secret))
    await scheduler.restart('SIGKILL')
    await until('the job runs again', async () => (await scheduler.metric('darter_scheduler_preheats')) === 1)
    meter.setRate(undefined)
    const { stderr } = await running
    assert.match(stderr, /no more word from the scheduler/)
    assert.match(stderr, / at 4 of 4 peers in /)
    for (const each of peers) {
      const pulled = await pullWithNode(each.mirror, 'team/restart', 'v1', {
        headers: { authorization: basic(ALICE) },
      })
      assert.deepEqual(new Set(pulled.digests.keys()), allDigests(image))
    }
    const ratio = meter.bodyBytes(isBlobGet) / image.bytes
    context.diagnostic(`origin ${ratio.toFixed(3)}x with a scheduler that was killed in the middle`)
    // Without a scheduler each peer reads for itself, for the few seconds that its download outlives the job.
    assert(ratio < 4, `the origin sent ${ratio.toFixed(3)}x`)

    const metric = (name: string, labels: Record<string, string> = {}) =>
      scheduler.metric(`darter_scheduler_preheat${name}`, labels)
    assert.equal(await metric('s'), 0)
    assert.equal(await metric('_seconds_count', { state: 'done' }), 1)
    assert.equal(await metric('_peers_total', { state: 'done' }), 4)
    const { config, layers } = image.manifests[0] ?? assert.fail()
    const size = [config, ...layers].reduce((bytes, blob) => bytes + blob.size, 0)
    assert.equal(await metric('_held_bytes_total'), 4 * size)
    // The first of its two jobs had credentials, which the scheduler has not kept.
    const { preheats } = (await (await api('/preheats')).json()) as { preheats: View[] }
    const states = preheats.slice(-2).map(({ state }) => state)
    assert.deepEqual(states, ['failed', 'done'])
    const { peers: parts } = await view(preheats.at(-2)?.id ?? '')
    assert.deepEqual(
      new Set(parts.map(({ state, failures }) => `${state} ${failures[0]?.code}`)),
      new Set(['failed SCHEDULER_RESTARTED']),
    )
  })

  test('a job without credentials outlives a scheduler that is killed, under its id and with its peers', async () => {
    const digest = `sha256:${createHash('sha256').update(held).digest('hex')}`
    const target = `${files}/held.bin`
    const { preheats: before } = (await (await api('/preheats')).json()) as { preheats: View[] }
    const id = await start({ target, digest, to: 'n=3' })
    const chosen = (await view(id)).peers.map(peer => peer.id)
    let told = ''
    const following = command([target, '--digest', digest, '--to', 'zone=far'], [0], text => {
      told += text
    })
    // A job is at work before its command has heard so, which could not follow it then.
    await until('the command follows its job', () => told.includes(': running'))
    await until('both are on disk', () => onDisk().filter(text => text.includes('"running"')).length === 2)
    await scheduler.restart('SIGKILL')
    assert.equal((await view(id)).state, 'running')
    const { preheats: after } = (await (await api('/preheats')).json()) as { preheats: View[] }
    assert.deepEqual(after.slice(0, before.length), before)
    open()
    const { state, peers: parts } = await end(id)
    assert.equal(state, 'done')
    assert.deepEqual(
      parts.map(part => [part.id, part.held]),
      chosen.map(peer => [peer, held.length]),
    )
    assert.match((await following).stderr, / at 1 of 1 peers in /)
    const { preheats } = (await (await api('/preheats')).json()) as { preheats: View[] }
    assert.equal(preheats.length, before.length + 2)
  })

  test('nobody without the token gets anywhere, and no secret is written down', async () => {
    for (const bearer of ['', 'x'.repeat(64), `${token()}0`]) {
      for (const [path, method] of [
        ['/preheats', 'GET'],
        ['/preheats', 'POST'],
        ['/preheats/0', 'GET'],
        ['/preheats/0/events', 'GET'],
        ['/preheats/0', 'DELETE'],
      ] as const) {
        const answer = await api(path, { method, ...(method === 'POST' && { body: '{}' }) }, bearer)
        assert.equal(answer.status, 401)
        assert.match(answer.headers.get('www-authenticate') ?? '', /^Bearer/)
      }
    }
    const bad = [
      { to: 'all' },
      { target: 'a b', to: 'all' },
      { target: 'app', to: 'everyone' },
      { target: 'https://alice:secret@example.com/x', to: 'all' },
      { target: 'app', to: 'all', more: 1 },
      { target: 'app', to: 'all', authorization: 'a\nb' },
    ]
    for (const body of bad) {
      const answer = await api('/preheats', { method: 'POST', body: JSON.stringify(body) })
      assert.equal(answer.status, 400, JSON.stringify(body))
    }
    const nobody = await api('/preheats', {
      method: 'POST',
      body: JSON.stringify({ target: 'app', to: 'zone=none' }),
    })
    assert.equal(nobody.status, 409)
    assert.equal((await api('/preheats/0')).status, 404)
    const usage = await command(['app', '--to', 'everyone'], [2])
    assert.match(usage.stderr, /must be seeds, all, zone=Z or n=K/)

    for (const program of [scheduler, ...peers]) {
      const text = JSON.stringify(program.log())
      for (const secret of secrets()) assert(!text.includes(secret))
    }
    const kept = JSON.stringify([await (await api('/preheats')).json(), ...onDisk()])
    for (const secret of secrets()) assert(!kept.includes(secret))
  })
})
