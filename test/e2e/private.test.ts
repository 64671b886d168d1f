import assert from 'node:assert/strict'
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { before, describe, test } from 'node:test'
import { type Registry, requirePrograms, startRegistry, useLab } from '@darter/testing'
import { startContainerd } from '../harness/clients/containerd.ts'
import { curl } from '../harness/clients/curl.ts'
import { pullWithNode, UnexpectedStatusError } from '../harness/clients/node.ts'
import { pullWithSkopeo, skopeoCopy } from '../harness/clients/skopeo.ts'
import { type Peer, startPeer, startScheduler, upstreamAt } from '../harness/darter.ts'
import { allDigests } from '../harness/expect.ts'
import { type Image, noiseImage } from '../harness/images.ts'
import { isBlobGet, type Meter, startMeter } from '../harness/meter.ts'
import { basic, type Login } from '../harness/mirror.ts'
import { pushImage } from '../harness/push.ts'
import { blobUrl, firstLayer } from '../harness/ranges.ts'
import { startTokenServer, type TokenServer } from '../harness/token-server.ts'

const MIB = 1024 * 1024
const ALICE: Login = { username: 'alice', password: 'opensesame-7731' }
const MALLORY: Login = { username: 'mallory', password: 'letmein-2204' }

const needed = requirePrograms(
  ['docker-registry', 'htpasswd', 'openssl', 'skopeo', 'curl', 'containerd', 'ctr', 'runc'],
  { root: true },
)

/** Fails when any file below a directory holds one of the secrets. */
function assertNowhere(dir: string, secrets: readonly string[]): void {
  for (const name of readdirSync(dir, { recursive: true, encoding: 'utf8' })) {
    const path = join(dir, name)
    if (!statSync(path).isFile()) continue
    const bytes = readFileSync(path)
    for (const secret of secrets) assert(!bytes.includes(secret), `${name} holds a credential`)
  }
}

/** The status and body that a pull was refused with. */
async function refusal(pull: Promise<unknown>): Promise<UnexpectedStatusError> {
  const error = await pull.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  assert(error instanceof UnexpectedStatusError, `not refused: ${String(error)}`)
  return error
}

describe('a registry with htpasswd', needed, () => {
  const lab = useLab('htpasswd')
  let image: Image
  let registry: Registry
  let meter: Meter
  let peers: Peer[]

  before(async () => {
    registry = await startRegistry(lab, { auth: { htpasswd: { [ALICE.username]: ALICE.password } } })
    meter = await startMeter(lab, registry.address)
    image = noiseImage(lab.makeDir('image'), 'private', [2 * MIB, 700])
    await pushImage(registry.url, 'team/secret', 'v1', image, { authorization: basic(ALICE) })
    const scheduler = await startScheduler(lab)
    peers = await Promise.all(
      ['one', 'two'].map(name => startPeer(lab, { name, upstreams: [upstreamAt(meter.address)], scheduler })),
    )
  })

  test('who has the rights gets it; who has none gets the 401 of the registry, cached or not', async () => {
    const [one, two] = peers
    assert(one && two)
    const uncached = await refusal(pullWithNode(one.mirror, 'team/secret', 'v1'))
    assert.equal(uncached.status, 401)
    const pulled = await pullWithNode(one.mirror, 'team/secret', 'v1', {
      headers: { authorization: basic(ALICE) },
    })
    assert.deepEqual(new Set(pulled.digests.keys()), allDigests(image))

    for (const peer of [one, two]) {
      for (const headers of [{}, { authorization: basic(MALLORY) }]) {
        for (const reference of ['v1', image.top.digest]) {
          const refused = await refusal(pullWithNode(peer.mirror, 'team/secret', reference, { headers }))
          assert.equal(refused.status, 401)
          assert.match(String(refused.headers['www-authenticate']), /^Basic realm="darter-test"/)
          assert.match(refused.body, /UNAUTHORIZED/)
        }
        const [layer] = image.blobs
        assert(layer)
        const blob = await curl(
          `http://${peer.mirror.address}/v2/${peer.mirror.prefix}team/secret/blobs/${layer.digest}`,
          Object.entries(headers).flatMap(([name, value]) => ['--header', `${name}: ${value}`]),
        )
        assert.equal(blob.status, 401, 'a blob of a private repository was not refused')
        assert(blob.body.length < 1000)
      }
    }
    const again = await pullWithNode(two.mirror, 'team/secret', image.top.digest, {
      headers: { authorization: basic(ALICE) },
    })
    assert.deepEqual(new Set(again.digests.keys()), allDigests(image))
  })

  test('what ranges brought is asked for again by nobody after a restart, and given to none who may not read it', async () => {
    const lazy = noiseImage(lab.makeDir('lazy'), 'lazy', [8 * MIB])
    await pushImage(registry.url, 'team/secret', 'lazy', lazy, { authorization: basic(ALICE) })
    const layer = firstLayer(lazy)
    const upstreams = [upstreamAt(meter.address)]
    const peer = await startPeer(lab, { name: 'lazy', upstreams, args: ['--no-prefetch'] })
    const url = blobUrl(peer.mirror, 'team/secret', layer.digest)
    const read = async (headers: Readonly<Record<string, string>>) => {
      const response = await fetch(url, { headers: { range: 'bytes=1000-399999', ...headers } })
      return { status: response.status, bytes: Buffer.from(await response.arrayBuffer()) }
    }
    const expected = { status: 206, bytes: layer.bytes.subarray(1000, 400_000) }
    assert.deepEqual(await read({ authorization: basic(ALICE) }), expected)
    await peer.restart()
    meter.reset()
    for (const headers of [{}, { authorization: basic(MALLORY) }]) {
      const refused = await read(headers)
      assert.equal(refused.status, 401)
      assert(refused.bytes.length < 1000)
    }
    assert.deepEqual(await read({ authorization: basic(ALICE) }), expected)
    assert.equal(
      meter.bodyBytes(request => isBlobGet(request) && request.status < 400),
      0,
    )
    assertNowhere(peer.dataDir, [ALICE.password, basic(ALICE).slice('Basic '.length)])
  })

  test('cached content is not served under the name of another repository', async () => {
    const [one] = peers
    const [layer] = image.blobs
    assert(one && layer)
    const other = await curl(
      `http://${one.mirror.address}/v2/${one.mirror.prefix}team/other/blobs/${layer.digest}`,
      ['--header', `Authorization: ${basic(ALICE)}`],
    )
    assert.equal(other.status, 404)
  })

  test('skopeo and containerd with their own credentials', async () => {
    const [one, two] = peers
    assert(one && two)
    await pullWithSkopeo(lab, one.mirror, 'team/secret', 'v1', image, { login: ALICE })
    const refused = await skopeoCopy(
      lab,
      `docker://${one.mirror.address}/${one.mirror.prefix}team/secret:v1`,
      `dir:${lab.makeDir('refused')}`,
      { login: MALLORY, codes: 'any' },
    )
    assert.notEqual(refused.code, 0)
    assert.match(refused.stderr, /unauthorized|authentication required|401/i)
    const containerd = await startContainerd(lab, two.mirror)
    await containerd.pullByCri('team/secret', 'v1', image, { login: ALICE })
    await assert.rejects(containerd.pullByCri('team/secret', image.top.digest, image, { login: MALLORY }))
  })

  test('credentials configured at the peer serve callers that bring none', async () => {
    const configFile = join(lab.dir, 'docker-config.json')
    const auth = Buffer.from(`${ALICE.username}:${ALICE.password}`).toString('base64')
    writeFileSync(configFile, JSON.stringify({ auths: { 'registry.test': { auth } } }), { mode: 0o600 })
    const peer = await startPeer(lab, {
      name: 'configured',
      upstreams: [upstreamAt(meter.address)],
      args: ['--docker-config', configFile],
    })
    peers.push(peer)
    const pulled = await pullWithNode(peer.mirror, 'team/secret', 'v1')
    assert.deepEqual(new Set(pulled.digests.keys()), allDigests(image))
    const wrong = await refusal(
      pullWithNode(peer.mirror, 'team/secret', 'v1', { headers: { authorization: basic(MALLORY) } }),
    )
    assert.equal(wrong.status, 401, 'a caller with wrong credentials was given the ones of the peer')
  })

  test('no credential is left in a log or on disk', async () => {
    for (const peer of peers) {
      const secrets = [ALICE, MALLORY].flatMap(login => [login.password, basic(login).slice('Basic '.length)])
      for (const secret of secrets) {
        assert(!(peer.daemon.stderr() + peer.daemon.stdout()).includes(secret), 'a credential was logged')
      }
      assertNowhere(peer.dataDir, secrets)
    }
  })
})

describe('a registry with tokens', needed, () => {
  const lab = useLab('tokens')
  let image: Image
  let peer: Peer
  let tokens: TokenServer

  before(async () => {
    tokens = await startTokenServer(lab, {
      [ALICE.username]: { password: ALICE.password, repositories: ['team/secret'] },
      [MALLORY.username]: { password: MALLORY.password, repositories: ['team/public'] },
    })
    const registry = await startRegistry(lab, { auth: { token: tokens } })
    image = noiseImage(lab.makeDir('image'), 'token', [2 * MIB, 700])
    const authorization = `Bearer ${await tokenFor(tokens, ALICE, 'repository:team/secret:pull,push')}`
    await pushImage(registry.url, 'team/secret', 'v1', image, { authorization })
    peer = await startPeer(lab, { name: 'peer', upstreams: [upstreamAt(registry.address)] })
  })

  test('skopeo and containerd follow the challenge that passes through', async () => {
    await pullWithSkopeo(lab, peer.mirror, 'team/secret', 'v1', image, { login: ALICE })
    const containerd = await startContainerd(lab, peer.mirror)
    await containerd.pullByCri('team/secret', 'v1', image, { login: ALICE })
  })

  test('a token without the right gets the answer of the registry for cached content', async () => {
    const granted = await tokenFor(tokens, ALICE, 'repository:team/secret:pull')
    await pullWithNode(peer.mirror, 'team/secret', 'v1', { headers: { authorization: `Bearer ${granted}` } })
    const empty = await tokenFor(tokens, MALLORY, 'repository:team/secret:pull')
    for (const authorization of [undefined, `Bearer ${empty}`, 'Bearer rubbish']) {
      const headers = authorization === undefined ? {} : { authorization }
      const refused = await refusal(pullWithNode(peer.mirror, 'team/secret', image.top.digest, { headers }))
      assert.equal(refused.status, 401)
      const challenge = String(refused.headers['www-authenticate'])
      assert(challenge.startsWith(`Bearer realm="${tokens.url}"`), challenge)
      assert.match(challenge, /scope="repository:team\/secret:pull"/)
    }
    const secrets = [granted, empty].map(token => token.slice(-40))
    for (const secret of secrets) assert(!peer.daemon.stderr().includes(secret), 'a token was logged')
    assertNowhere(peer.dataDir, secrets)
  })
})

async function tokenFor(tokens: TokenServer, login: Login, scope: string): Promise<string> {
  const url = `${tokens.url}?service=${tokens.service}&scope=${encodeURIComponent(scope)}`
  const response = await fetch(url, { headers: { authorization: basic(login) } })
  const answer = (await response.json()) as { token: string }
  return answer.token
}
