import assert from 'node:assert/strict'
import { once } from 'node:events'
import { request as httpRequest } from 'node:http'
import { connect } from 'node:net'
import { after, afterEach, before, describe, test } from 'node:test'
import { OriginInterruptedError } from '@darter/origin'
import { type Registry, requirePrograms, startRegistry, useLab } from '@darter/testing'
import { type MemoryReads, memoryReads, startDoor, type TestDoor } from './support/door.ts'
import { digestOf, OCI_MANIFEST, type PushedImage, pushImage } from './support/image.ts'

describe('the registry door', requirePrograms(['docker-registry']), () => {
  const lab = useLab('door')
  let registry: Registry
  let image: PushedImage
  let door: TestDoor

  before(async () => {
    registry = await startRegistry(lab)
    image = await pushImage(`${registry.url}/v2/library/app`, 'v1')
    door = await startDoor({
      upstreams: [
        { name: 'docker.io', url: registry.url, hosts: ['index.docker.io'] },
        { name: registry.address, url: registry.url },
      ],
      default: 'docker.io',
    })
  })
  after(async () => {
    await door.stop()
  })
  afterEach(() => {
    door.reads.tamper = undefined
  })

  const blobUrl = () => `${door.url}/v2/library/app/blobs/${image.layer}`

  async function errorCode(answer: Response): Promise<string | undefined> {
    const body: unknown = await answer.json()
    assert.ok(typeof body === 'object' && body !== null && 'errors' in body && Array.isArray(body.errors))
    return body.errors[0].code
  }

  /** The line is written when the connection is over; the generators end within a few turns of the loop. */
  async function allReadsEnded(reads: MemoryReads): Promise<void> {
    for (let turns = 0; reads.running > 0 && turns < 1000; turns++) await new Promise(setImmediate)
    assert.equal(reads.running, 0)
  }

  /** The answer to bytes on a plain socket, until the other side closes. */
  async function sendRaw(port: number, text: string): Promise<string> {
    const socket = connect(port, '127.0.0.1')
    socket.end(text)
    let answer = ''
    for await (const piece of socket) answer += piece
    return answer
  }

  describe('manifests', () => {
    for (const [form, path, headers] of [
      ['the default', '/v2/library/app/manifests/v1', {}],
      ['the path', '/v2/docker.io/library/app/manifests/v1', {}],
      ['a one-word path', '/v2/docker.io/app/manifests/v1', {}],
      ['ns', '/v2/library/app/manifests/v1?ns=index.docker.io', {}],
      ['the header', '/v2/library/app/manifests/v1', { 'x-dragonfly-registry': 'https://index.docker.io' }],
    ] as const) {
      test(`by tag, the upstream named by ${form}`, async () => {
        const answer = await fetch(door.url + path, { headers: { ...headers, accept: OCI_MANIFEST } })
        assert.equal(answer.status, 200)
        assert.equal(answer.headers.get('docker-content-digest'), image.manifest)
        assert.equal(answer.headers.get('content-type'), OCI_MANIFEST)
        assert.equal(answer.headers.get('docker-distribution-api-version'), 'registry/2.0')
        assert.equal(answer.headers.get('warning'), null)
        assert.equal(await answer.text(), image.manifestBytes)
      })
    }

    test('the upstream named by host and port in the path', async () => {
      const answer = await fetch(`${door.url}/v2/${registry.address}/library/app/manifests/v1`)
      assert.equal(await answer.text(), image.manifestBytes)
    })

    test('HEAD by tag and by digest have the headers of GET and no body', async () => {
      for (const reference of ['v1', image.manifest]) {
        const answer = await fetch(`${door.url}/v2/library/app/manifests/${reference}`, { method: 'HEAD' })
        assert.equal(answer.status, 200)
        assert.equal(answer.headers.get('content-length'), String(image.manifestBytes.length))
        assert.equal(answer.headers.get('docker-content-digest'), image.manifest)
        assert.equal(answer.headers.get('content-type'), OCI_MANIFEST)
        assert.equal(answer.headers.get('etag'), `"${image.manifest}"`)
      }
    })

    test('If-None-Match is answered with 304', async () => {
      const headers = { 'if-none-match': `"${image.manifest}"` }
      const answer = await fetch(`${door.url}/v2/library/app/manifests/v1`, { headers })
      assert.equal(answer.status, 304)
      assert.equal(await answer.text(), '')
    })

    test('an unknown tag is the upstream’s own 404, with a body', async () => {
      const answer = await fetch(`${door.url}/v2/library/app/manifests/none`)
      assert.equal(answer.status, 404)
      assert.equal(await errorCode(answer), 'MANIFEST_UNKNOWN')
    })

    test('a tag that was pushed again is seen at once when tags are always asked for', async () => {
      await pushImage(`${registry.url}/v2/library/moving`, 'v1', { size: 10, salt: 'a' })
      const tag = `${door.url}/v2/library/moving/manifests/v1`
      await (await fetch(tag)).text()
      const next = await pushImage(`${registry.url}/v2/library/moving`, 'v1', { size: 10, salt: 'b' })
      assert.equal((await fetch(tag, { method: 'HEAD' })).headers.get('docker-content-digest'), next.manifest)
    })
  })

  describe('blobs', () => {
    test('whole', async () => {
      const answer = await fetch(blobUrl())
      assert.equal(answer.status, 200)
      assert.equal(answer.headers.get('content-length'), String(image.layerBytes.length))
      assert.equal(answer.headers.get('content-type'), 'application/octet-stream')
      assert.equal(answer.headers.get('accept-ranges'), 'bytes')
      assert.equal(answer.headers.get('docker-content-digest'), image.layer)
      assert.equal(answer.headers.get('content-encoding'), null)
      assert.equal(digestOf(Buffer.from(await answer.arrayBuffer())), image.layer)
    })

    test('HEAD tells the size, also when a range is asked for', async () => {
      for (const headers of [{}, { range: 'bytes=0-' }]) {
        const answer = await fetch(blobUrl(), { method: 'HEAD', headers })
        assert.equal(answer.status, 200)
        assert.equal(answer.headers.get('content-length'), String(image.layerBytes.length))
      }
    })

    const size = 100_000
    for (const [range, from, to] of [
      ['bytes=0-0', 0, 1],
      ['bytes=10-99', 10, 100],
      ['bytes=65530-65545', 65_530, 65_546],
      ['bytes=99999-', 99_999, size],
      ['bytes=500-9999999', 500, size],
      ['bytes=-7', size - 7, size],
      ['bytes=-9999999', 0, size],
    ] as const) {
      test(`Range: ${range}`, async () => {
        const answer = await fetch(blobUrl(), { headers: { range } })
        assert.equal(answer.status, 206)
        assert.equal(answer.headers.get('content-range'), `bytes ${from}-${to - 1}/${size}`)
        assert.equal(answer.headers.get('content-length'), String(to - from))
        const body = Buffer.from(await answer.arrayBuffer())
        assert.ok(body.equals(image.layerBytes.subarray(from, to)))
      })
    }

    for (const range of [
      'bytes=0-9,5-16',
      'bytes=5-6,0-1',
      'bytes=0-1,x',
      'lines=1-2,4-5',
      'lines=1-2',
      'bytes=5-2',
      'bytes=x-y',
    ]) {
      test(`Range: ${range} is answered with the whole`, async () => {
        const answer = await fetch(blobUrl(), { headers: { range } })
        assert.equal(answer.status, 200)
        assert.equal((await answer.arrayBuffer()).byteLength, size)
      })
    }

    test('several ranges are parts of one answer, in order', async () => {
      const spans = [
        [0, 1],
        [5, 70_000],
        [70_000, 70_003],
        [size - 2, size],
      ] as const
      const range = `bytes=0-0, 5-69999,70000-70002 ,-2,${size}-`
      const answer = await fetch(blobUrl(), { headers: { range } })
      assert.equal(answer.status, 206)
      assert.equal(answer.headers.get('content-range'), null)
      const type = answer.headers.get('content-type') ?? ''
      const boundary = /^multipart\/byteranges; boundary=(\w+)$/.exec(type)?.[1] ?? assert.fail(type)
      const body = Buffer.from(await answer.arrayBuffer())
      assert.equal(answer.headers.get('content-length'), String(body.length))
      const expected = spans.map(([from, to]) =>
        Buffer.concat([
          Buffer.from(`--${boundary}\r\ncontent-type: application/octet-stream\r\n`),
          Buffer.from(`content-range: bytes ${from}-${to - 1}/${size}\r\n\r\n`),
          image.layerBytes.subarray(from, to),
          Buffer.from('\r\n'),
        ]),
      )
      assert.ok(body.equals(Buffer.concat([...expected, Buffer.from(`--${boundary}--\r\n`)])))
    })

    test('of several ranges one lies inside: an ordinary part', async () => {
      const answer = await fetch(blobUrl(), { headers: { range: `bytes=4-5,${size}-${size + 1}` } })
      assert.equal(answer.status, 206)
      assert.equal(answer.headers.get('content-range'), `bytes 4-5/${size}`)
      assert.equal((await answer.arrayBuffer()).byteLength, 2)
    })

    for (const range of ['bytes=100000-', 'bytes=-0', 'bytes=100000-,100001-']) {
      test(`Range: ${range} cannot be satisfied`, async () => {
        const answer = await fetch(blobUrl(), { headers: { range } })
        assert.equal(answer.status, 416)
        assert.equal(answer.headers.get('content-range'), `bytes */${size}`)
        assert.equal(await errorCode(answer), 'RANGE_INVALID')
      })
    }

    test('If-Range with another entity tag is answered with the whole', async () => {
      const headers = { range: 'bytes=0-9' }
      assert.equal((await fetch(blobUrl(), { headers: { ...headers, 'if-range': '"other"' } })).status, 200)
      assert.equal(
        (await fetch(blobUrl(), { headers: { ...headers, 'if-range': `"${image.layer}"` } })).status,
        206,
      )
    })

    test('a blob that the upstream does not have is its own 404', async () => {
      const answer = await fetch(`${door.url}/v2/library/app/blobs/${digestOf('nothing')}`)
      assert.equal(answer.status, 404)
      assert.equal(await errorCode(answer), 'BLOB_UNKNOWN')
    })

    test('a blob that is held for one repository is not given out under another', async () => {
      await (await fetch(blobUrl())).arrayBuffer()
      assert.ok(door.reads.isHeld(image.layer))
      const answer = await fetch(`${door.url}/v2/library/other/blobs/${image.layer}`)
      assert.equal(answer.status, 404)
    })

    test('when the body fails on its way, the connection is cut and the log says why', async () => {
      door.reads.tamper = async function* (body) {
        let sent = 0
        for await (const piece of body) {
          if (sent >= 65_536) throw new OriginInterruptedError('the test', sent, size)
          sent += piece.length
          yield piece
        }
      }
      await assert.rejects(
        fetch(blobUrl(), { headers: { range: 'bytes=1-' } }).then(answer => answer.arrayBuffer()),
      )
      const line = await door.requestLine(({ range }) => range === 'bytes=1-')
      assert.equal(line['outcome'], 'cut:ORIGIN_INTERRUPTED')
      assert.equal(line['bytes'], 65_536)
    })

    for (const [what, change] of [
      ['longer', (piece: Uint8Array) => Buffer.concat([piece, piece])],
      ['shorter', (piece: Uint8Array) => piece.subarray(0, piece.length - 1)],
    ] as const) {
      test(`a body that is ${what} than announced is never completed`, async () => {
        door.reads.tamper = async function* (body) {
          for await (const piece of body) yield change(piece)
        }
        await assert.rejects(
          fetch(blobUrl(), { headers: { range: `bytes=2-${what.length + 90_000}` } }).then(answer =>
            answer.arrayBuffer(),
          ),
        )
        const line = await door.requestLine(({ range }) => range === `bytes=2-${what.length + 90_000}`)
        assert.equal(line['outcome'], 'cut:BODY_LENGTH')
      })
    }

    test('when the client hangs up, the read ends', async () => {
      let ended = false
      door.reads.tamper = async function* (body) {
        try {
          for await (const piece of body) {
            for (;;) yield piece
          }
        } finally {
          ended = true
        }
      }
      const request = httpRequest(blobUrl(), { headers: { range: 'bytes=3-' } })
      request.end()
      const [response] = await once(request, 'response')
      await once(response, 'data')
      response.destroy()
      const line = await door.requestLine(({ range }) => range === 'bytes=3-')
      assert.notEqual(line['outcome'], 'complete')
      await allReadsEnded(door.reads)
      assert.equal(ended, true)
    })

    test('the log has one line for a request, with where the bytes came from', async () => {
      await (await fetch(blobUrl(), { headers: { range: 'bytes=4-' } })).arrayBuffer()
      const line = await door.requestLine(({ range }) => range === 'bytes=4-')
      assert.deepEqual(
        { ...line, ms: 0, time: 0 },
        {
          level: 'info',
          time: 0,
          name: 'test',
          upstream: 'docker.io',
          repository: 'library/app',
          digest: image.layer,
          method: 'GET',
          route: 'blob',
          status: 206,
          range: 'bytes=4-',
          bytes: size - 4,
          fromDisk: size - 4,
          fromPeers: 0,
          fromOrigin: 0,
          ms: 0,
          outcome: 'complete',
          msg: 'request',
        },
      )
    })
  })

  describe('what is passed on', () => {
    test('a list of tags', async () => {
      const answer = await fetch(`${door.url}/v2/docker.io/app/tags/list`)
      assert.deepEqual(await answer.json(), { name: 'library/app', tags: ['v1'] })
    })

    test('a list a page at a time, with links that lead through the door', async () => {
      await pushImage(`${registry.url}/v2/a-first`, 'v1', { size: 10 })
      await pushImage(`${registry.url}/v2/a-second`, 'v1', { size: 10 })
      const first = await fetch(`${door.url}/v2/docker.io/_catalog?n=1`)
      assert.deepEqual(await first.json(), { repositories: ['a-first'] })
      const link = /<([^>]+)>/.exec(first.headers.get('link') ?? '')?.[1] ?? ''
      assert.ok(link.startsWith('/v2/docker.io/_catalog?'))
      const second = await fetch(new URL(link, door.url))
      assert.deepEqual(await second.json(), { repositories: ['a-second'] })
    })

    for (const [form, base, query] of [
      ['the default', '/v2/library/pushed-a', ''],
      ['the path', '/v2/docker.io/library/pushed-b', ''],
    ] as const) {
      test(`a push arrives, the upstream named by ${form}`, async () => {
        const pushed = await pushImage(door.url + base, 'v1', { salt: form, query })
        const there = await fetch(
          `${registry.url}/v2/${base.replace('/v2/', '').replace('docker.io/', '')}/manifests/v1`,
          {
            headers: { accept: OCI_MANIFEST },
          },
        )
        assert.equal(await there.text(), pushed.manifestBytes)
        const back = await fetch(`${door.url}${base}/blobs/${pushed.layer}`)
        assert.equal(digestOf(Buffer.from(await back.arrayBuffer())), pushed.layer)
      })
    }

    test('an upload’s location keeps ns, in chunks and with Expect: 100-continue', async () => {
      const begun = await fetch(`${door.url}/v2/library/chunked/blobs/uploads/?ns=docker.io`, {
        method: 'POST',
      })
      assert.equal(begun.status, 202)
      const location = new URL(begun.headers.get('location') ?? '', door.url)
      assert.equal(location.searchParams.get('ns'), 'docker.io')
      const bytes = Buffer.alloc(300_000, 'x')
      const patch = httpRequest(location, {
        method: 'PATCH',
        headers: {
          expect: '100-continue',
          'content-length': bytes.length,
          'content-type': 'application/octet-stream',
        },
      })
      patch.flushHeaders()
      await once(patch, 'continue')
      patch.end(bytes)
      const [patched] = await once(patch, 'response')
      patched.resume()
      assert.equal(patched.statusCode, 202)
      const next = new URL(patched.headers.location, door.url)
      next.searchParams.set('digest', digestOf(bytes))
      const done = await fetch(next, { method: 'PUT' })
      assert.equal(done.status, 201)
      assert.equal((await fetch(`${registry.url}/v2/library/chunked/blobs/${digestOf(bytes)}`)).status, 200)
    })

    test('a blob is mounted from another repository', async () => {
      const query = `mount=${image.layer}&from=docker.io/library/app`
      const answer = await fetch(`${door.url}/v2/docker.io/library/mounted/blobs/uploads/?${query}`, {
        method: 'POST',
      })
      assert.equal(answer.status, 201)
      assert.equal((await fetch(`${registry.url}/v2/library/mounted/blobs/${image.layer}`)).status, 200)
    })

    test('what was deleted through the door is gone', async () => {
      const gone = await pushImage(`${registry.url}/v2/library/gone`, 'v1', { size: 20, salt: 'gone' })
      const url = `${door.url}/v2/library/gone/manifests/${gone.manifest}`
      assert.equal((await fetch(url)).status, 200)
      assert.equal((await fetch(url, { method: 'DELETE' })).status, 202)
      assert.equal((await fetch(url)).status, 404)
    })

    test('the API root is the upstream’s', async () => {
      for (const path of ['/v2', '/v2/', '/v2/docker.io/']) {
        const answer = await fetch(door.url + path)
        assert.equal(answer.status, 200)
        assert.deepEqual(await answer.json(), {})
        assert.equal(answer.headers.get('docker-distribution-api-version'), 'registry/2.0')
      }
    })
  })

  describe('what is refused', () => {
    for (const [what, path, status, code] of [
      ['another registry by ns', '/v2/x/manifests/1?ns=evil.example', 403, 'DENIED'],
      ['another registry by path', '/v2/evil.example/x/manifests/1', 403, 'DENIED'],
      ['a malformed digest', '/v2/x/blobs/sha256:zz', 400, 'DIGEST_INVALID'],
      ['a malformed name', '/v2/UPPER/manifests/1', 400, 'NAME_INVALID'],
      ['a malformed tag', '/v2/x/manifests/.INVALID', 404, 'MANIFEST_UNKNOWN'],
      ['bad percent-encoding', '/v2/x/manifests/%zz', 400, 'UNSUPPORTED'],
      ['something that is no registry API', '/etc/passwd', 404, 'UNSUPPORTED'],
      ['a registry where a repository belongs', '/v2/docker.io/manifests/1', 400, 'NAME_INVALID'],
    ] as const) {
      test(what, async () => {
        const answer = await fetch(door.url + path)
        assert.equal(answer.status, status)
        assert.equal(await errorCode(answer), code)
      })
    }

    test('paths that a client would have tidied', async () => {
      for (const path of [
        '/v2/a/../../etc/passwd',
        '/v2/a//b/tags/list',
        '/v2/a/%2e%2e/tags/list',
        '/v2/a%2fb/tags/list',
      ]) {
        const answer = await sendRaw(
          door.port,
          `GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`,
        )
        assert.match(answer, /^HTTP\/1\.1 40[04] [\s\S]*"errors"/, path)
      }
    })

    test('methods that a resource does not have', async () => {
      const answer = await fetch(`${door.url}/v2/x/tags/list`, { method: 'POST', body: 'x' })
      assert.equal(answer.status, 405)
      assert.equal(answer.headers.get('allow'), 'GET, HEAD')
      assert.match(
        await sendRaw(door.port, 'PROPFIND /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'),
        /^HTTP\/1\.1 405 /,
      )
    })

    test('a request that was here before', async () => {
      const headers = { via: '1.1 other, 1.1 darter-test (x)' }
      const answer = await fetch(`${door.url}/v2/x/manifests/1`, { headers })
      assert.equal(answer.status, 508)
      assert.match(JSON.stringify(await answer.json()), /leads back to this peer/)
    })

    test('a head that is too large, a target that is too long, garbage', async () => {
      const large = await sendRaw(
        door.port,
        `GET /v2/ HTTP/1.1\r\nHost: x\r\nX-Large: ${'a'.repeat(40_000)}\r\n\r\n`,
      )
      assert.match(large, /^HTTP\/1\.1 431 [\s\S]*"errors"/)
      const long = await sendRaw(
        door.port,
        `GET /v2/${'a'.repeat(9000)} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`,
      )
      assert.match(long, /^HTTP\/1\.1 414 [\s\S]*"errors"/)
      assert.match(await sendRaw(door.port, 'GARBAGE\r\n\r\n'), /^HTTP\/1\.1 400 [\s\S]*"errors"/)
      assert.equal((await fetch(`${door.url}/v2/`)).status, 200)
    })
  })

  test('an upstream that leads back here is found out', async () => {
    // Two peers with one marker are one peer as far as a loop is concerned.
    const looped = await startDoor({
      upstreams: [{ name: 'a.example', url: door.url }],
      default: 'a.example',
    })
    try {
      for (const path of [
        'manifests/v1',
        `manifests/${image.manifest}`,
        `blobs/${image.layer}`,
        'tags/list',
      ]) {
        const answer = await fetch(`${looped.url}/v2/library/app/${path}`)
        assert.equal(answer.status, 508, path)
        assert.match(await answer.text(), /leads back to this peer|status 508/)
      }
    } finally {
      await looped.stop()
    }
  })

  test('a client that takes nothing for too long is cut off, and the read ends', async () => {
    const reads = memoryReads()
    const upstreams = [{ name: 'docker.io', url: registry.url }]
    const impatient = await startDoor({ upstreams, default: 'docker.io', reads, idleTimeoutMs: 300 })
    try {
      await (await fetch(`${impatient.url}/v2/library/app/blobs/${image.layer}`, { method: 'HEAD' })).text()
      reads.tamper = async function* (body) {
        for await (const piece of body) for (;;) yield piece
      }
      reads.open = (open => async request => {
        const read = await open(request)
        return 'body' in read ? { ...read, size: 2 ** 40, to: 2 ** 40 } : read
      })(reads.open)
      const socket = connect(impatient.port, '127.0.0.1')
      socket.pause()
      socket.write(`GET /v2/library/app/blobs/${image.layer} HTTP/1.1\r\nHost: x\r\n\r\n`)
      const line = await impatient.requestLine(({ method, route }) => method === 'GET' && route === 'blob')
      assert.equal(line['outcome'], 'client-gone')
      await allReadsEnded(reads)
      socket.destroy()
    } finally {
      await impatient.stop()
    }
  })

  test('a port of its own stands for its upstream', async () => {
    const upstream = door.upstreams.find(registry.address)
    const address = await door.door.listen({ host: '127.0.0.1', port: 0, upstream })
    const answer = await fetch(`http://127.0.0.1:${address.port}/v2/library/app/manifests/v1`)
    assert.equal(await answer.text(), image.manifestBytes)
    const line = await door.requestLine(({ upstream: name }) => name === registry.address)
    assert.equal(line['status'], 200)
  })

  test('closing lets a running answer end and refuses new connections', async () => {
    const reads = memoryReads()
    const closing = await startDoor({
      upstreams: [{ name: 'docker.io', url: registry.url }],
      default: 'docker.io',
      reads,
    })
    const gate = Promise.withResolvers<void>()
    const reached = Promise.withResolvers<void>()
    reads.tamper = async function* (body) {
      for await (const piece of body) {
        yield piece
        reached.resolve()
        await gate.promise
      }
    }
    const body = fetch(`${closing.url}/v2/library/app/blobs/${image.layer}`).then(answer =>
      answer.arrayBuffer(),
    )
    await reached.promise
    const closed = closing.door.close(AbortSignal.timeout(20_000))
    await assert.rejects(fetch(`${closing.url}/v2/`))
    gate.resolve()
    assert.equal((await body).byteLength, image.layerBytes.length)
    const begun = performance.now()
    await closed
    assert.ok(performance.now() - begun < 5000, 'an idle connection must not hold up the end')
    await closing.stop()
  })

  test('closing cuts what still runs when the grace time is over', async () => {
    const reads = memoryReads()
    const closing = await startDoor({
      upstreams: [{ name: 'docker.io', url: registry.url }],
      default: 'docker.io',
      reads,
    })
    const reached = Promise.withResolvers<void>()
    const never = Promise.withResolvers<void>()
    reads.tamper = async function* (body) {
      for await (const piece of body) {
        yield piece
        reached.resolve()
        await never.promise
      }
    }
    const body = fetch(`${closing.url}/v2/library/app/blobs/${image.layer}`).then(answer =>
      answer.arrayBuffer(),
    )
    const cut = assert.rejects(body)
    await reached.promise
    await closing.door.close(AbortSignal.abort())
    await cut
    never.resolve()
    await closing.stop()
  })
})
