import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { before, describe, test } from 'node:test'
import { requirePrograms, startRegistry, until, useLab } from '@darter/testing'
import { curl } from '../harness/clients/curl.ts'
import { type Peer, type Scheduler, startPeer, startScheduler, upstreamAt } from '../harness/darter.ts'
import { noise, noiseImage } from '../harness/images.ts'
import { type Meter, startMeter } from '../harness/meter.ts'
import { basic, type Login } from '../harness/mirror.ts'
import { type FileServer, startFileServer } from '../harness/nginx.ts'
import { pushImage } from '../harness/push.ts'

const MIB = 1024 * 1024
const ALICE: Login = { username: 'alice', password: 'opensesame-7731' }
const needed = requirePrograms(['nginx', 'curl', 'docker-registry'])

const sha256 = (bytes: Uint8Array) => `sha256:${createHash('sha256').update(bytes).digest('hex')}`
const door = (peer: Peer, url: string) => `http://${peer.mirror.address}/url/${encodeURIComponent(url)}`
const wanted = (digest: string) => ['--header', `X-Darter-Digest: ${digest}`]

describe('content by URL', needed, () => {
  const lab = useLab('url')
  let files: FileServer
  let meter: Meter
  let scheduler: Scheduler
  let peers: Peer[]

  before(async () => {
    files = await startFileServer(lab, { login: ALICE })
    meter = await startMeter(lab, files.address)
    scheduler = await startScheduler(lab)
    peers = await Promise.all(
      ['a', 'b', 'c', 'd'].map(name =>
        startPeer(lab, { name, upstreams: [], scheduler, args: ['--url-allow', meter.url] }),
      ),
    )
  })
  const peer = (index: number): Peer => {
    const found = peers[index]
    assert(found)
    return found
  }

  test('four peers want a cold URL with a digest at the same moment: its origin is read about once', async context => {
    const model = noise('model', 40 * MIB)
    files.put('model.bin', model)
    meter.reset()
    const url = `${meter.url}/model.bin`
    const answers = await Promise.all(peers.map(each => curl(door(each, url), wanted(sha256(model)))))
    for (const { status, headers, body } of answers) {
      assert.equal(status, 200)
      assert.equal(headers.get('x-darter-digest'), sha256(model))
      assert(body.equals(model))
    }
    const ratio = meter.bodyBytes() / model.length
    context.diagnostic(`origin bytes ${ratio.toFixed(4)}x in ${meter.requests.length} requests`)
    assert(ratio <= 1.05, `${ratio} times the content was read`)

    meter.reset()
    const part = await curl(door(peer(0), url), [...wanted(sha256(model)), '--range', '5000000-5999999'])
    assert.equal(part.status, 206)
    assert.equal(part.headers.get('content-range'), `bytes 5000000-5999999/${model.length}`)
    assert(part.body.equals(model.subarray(5_000_000, 6_000_000)))
    assert.equal(meter.bodyBytes(), 0)
  })

  test('content without a digest comes from the origin, and from peers once someone has hashed it', async () => {
    const data = noise('data', 9 * MIB)
    files.put('data.bin', data)
    const url = `${meter.url}/data.bin`
    const through = await curl(door(peer(0), url))
    assert(through.body.equals(data))
    assert.equal(through.headers.get('x-darter-digest'), undefined)
    const shared = await curl(door(peer(0), url))
    assert(shared.body.equals(data))
    assert.equal(shared.headers.get('x-darter-digest'), sha256(data))
    meter.reset()
    const elsewhere = await curl(door(peer(1), url))
    assert(elsewhere.body.equals(data))
    assert.equal(meter.bodyBytes(), 0)

    // Of another size: nginx's ETag is made of the size and the second of the last change.
    const changed = noise('changed', 9 * MIB + 1)
    files.put('data.bin', changed)
    const again = await until('the change is seen', async () => {
      const answer = await curl(door(peer(2), url))
      return answer.body.equals(changed) && answer
    })
    assert.equal(again.headers.get('x-darter-digest'), undefined)
  })

  test('content that changes after its description was remembered is described anew', async () => {
    const url = `${meter.url}/mutable.bin`
    for (const size of [3 * MIB, 2 * MIB]) {
      const data = noise(`mutable-${size}`, size)
      files.put('mutable.bin', data)
      const args = size === 3 * MIB ? ['--head'] : []
      const answer = await curl(door(peer(3), url), args)
      assert.equal(answer.headers.get('content-length'), String(size))
      if (args.length === 0) assert(answer.body.equals(data))
    }
  })

  test('the signature of a URL does not count for what it is', async () => {
    const data = noise('signed', 5 * MIB)
    files.put('signed.bin', data)
    const signed = (by: string) =>
      `${meter.url}/signed.bin?part=1&X-Amz-Signature=${by}&X-Amz-Expires=60&Expires=1`
    assert((await curl(door(peer(0), signed('one')), wanted(sha256(data)))).body.equals(data))
    meter.reset()
    const other = await curl(door(peer(1), signed('two')), wanted(sha256(data)))
    assert(other.body.equals(data))
    assert.equal(meter.bodyBytes(), 0)
    assert.match(meter.requests[0]?.path ?? '', /X-Amz-Signature=two/)
    for (const line of peer(1).log()) assert(!JSON.stringify(line).includes('X-Amz-Signature'))
  })

  test('private content is for those whom its origin lets read it, cached or not', async () => {
    const secret = noise('secret', 3 * MIB)
    files.put('private/secret.bin', secret)
    const url = `${meter.url}/private/secret.bin`
    const authorization = ['--header', `Authorization: ${basic(ALICE)}`]
    const allowed = await curl(door(peer(0), url), [...wanted(sha256(secret)), ...authorization])
    assert(allowed.body.equals(secret))
    const refused = await curl(door(peer(0), url), wanted(sha256(secret)))
    assert.equal(refused.status, 401)
    assert.match(refused.headers.get('www-authenticate') ?? '', /Basic/)
    meter.reset()
    const inUrl = url.replace('http://', `http://${ALICE.username}:${ALICE.password}@`)
    const elsewhere = await curl(door(peer(1), inUrl), wanted(sha256(secret)))
    assert(elsewhere.body.equals(secret))
    assert.equal(meter.bodyBytes(), 0)
    for (const each of peers) {
      for (const line of each.log()) {
        const text = JSON.stringify(line)
        assert(!text.includes(ALICE.password) && !text.includes(basic(ALICE).slice(6)))
      }
    }
  })

  test('a digest that a caller claims of a URL opens nothing else, and spoils nothing', async () => {
    const registry = await startRegistry(lab)
    const image = noiseImage(lab.makeDir('image'), 'claimed', [2 * MIB])
    await pushImage(registry.url, 'library/app', 'v1', image)
    const layer = image.blobs.toSorted((a, b) => b.size - a.size)[0]
    assert(layer)
    const own = await startPeer(lab, {
      name: 'own',
      upstreams: [upstreamAt(registry.address)],
      scheduler,
      args: ['--url-allow', files.url],
    })
    const blob = `http://${own.mirror.address}/v2/${own.mirror.prefix}library/app/blobs/${layer.digest}`
    assert.equal((await curl(blob)).status, 200)
    // Something else, and as long.
    files.put('claimed.bin', noise('else', layer.size))
    const claim = curl(door(own, `${files.url}/claimed.bin`), wanted(layer.digest))
    // Its last bytes are held back, and the connection is cut.
    await assert.rejects(claim, /ended with (?:18|56)\n[^]*curl: \((?:18\) transfer closed with|56\))/)
    const good = await curl(blob)
    assert.equal(sha256(good.body), layer.digest)
  })

  test('a page among the content is none of the door’s own in a browser', async () => {
    files.put('page.html', Buffer.from('<script>alert(1)</script>'))
    const { status, headers } = await curl(door(peer(0), `${meter.url}/page.html`))
    assert.equal(status, 200)
    assert.equal(headers.get('content-type'), 'text/html')
    assert.equal(headers.get('x-content-type-options'), 'nosniff')
    assert.equal(headers.get('content-security-policy'), 'sandbox')
  })

  test('what is not allowed is refused before anything is sent', async () => {
    const ask = (url: string, args: readonly string[] = []) => curl(door(peer(0), url), args)
    const message = (body: Buffer) => body.toString('utf8')
    meter.reset()
    const elsewhere = await ask(`${files.url}/model.bin`)
    assert.equal(elsewhere.status, 403)
    assert.match(message(elsewhere.body), /--url-allow http:\/\/127/)
    assert.equal((await ask('ftp://127.0.0.1/x')).status, 400)
    assert.equal((await ask(`${meter.url}/model.bin`, ['--request', 'POST'])).status, 405)
    const bad = await ask(`${meter.url}/model.bin`, wanted('sha256:xyz'))
    assert.equal(bad.status, 400)
    const named = (names: string) => ask(`${meter.url}/model.bin`, ['--header', `X-Darter-Forward: ${names}`])
    for (const names of ['X-Token, Range', 'host', 'x-darter-digest', 'a b']) {
      assert.equal((await named(names)).status, 400, names)
    }
    assert.equal(meter.requests.length, 0)
    assert.equal((await ask(`${meter.url}/missing.bin`)).status, 404)
  })

  test('where any host is allowed, those inside the network are not', async () => {
    const open = await startPeer(lab, {
      name: 'open',
      upstreams: [],
      args: ['--url-allow', 'http://*', '--url-allow', `http://*:${files.address.split(':')[1]}`],
    })
    for (const host of ['127.0.0.1', 'localhost', '[::1]', '0.0.0.0', '2130706433']) {
      const url = `http://${host}:${files.address.split(':')[1]}/model.bin`
      const refused = await curl(door(open, url))
      assert.equal(refused.status, 403, `${host}: ${refused.body.toString()}`)
      assert.match(refused.body.toString(), /inside the network/)
    }
  })
})
