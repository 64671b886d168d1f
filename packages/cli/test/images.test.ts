import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type ServerResponse } from 'node:http'
import { after, beforeEach, test } from 'node:test'
import { GetRefusedError } from '../src/get/errors.ts'
import { listBlobs, NoBlobsError } from '../src/images/blobs.ts'
import { createDoorClient } from '../src/images/door.ts'
import { parseImageReference } from '@darter/oci'
import { preheat } from '../src/preheat/preheat.ts'

const INDEX = 'application/vnd.oci.image.index.v1+json'
const MANIFEST = 'application/vnd.oci.image.manifest.v1+json'
const digestOf = (text: string) => `sha256:${createHash('sha256').update(text).digest('hex')}`

/** What the door answers below `/v2/a/b/`. */
const answers = new Map<string, (response: ServerResponse) => void>()
let running = 0
let most = 0
let asked: string[] = []
const server = createServer((request, response) => {
  const path = request.url?.slice('/v2/a/b/'.length) ?? ''
  asked.push(path)
  most = Math.max(most, ++running)
  response.once('close', () => running--)
  const answer = answers.get(path)
  if (answer === undefined) response.writeHead(404).end()
  else answer(response)
})
await once(server.listen(0, '127.0.0.1'), 'listening')
const address = server.address()
assert(address !== null && typeof address === 'object')
const peer = `http://127.0.0.1:${address.port}`
after(() => {
  server.closeAllConnections()
  server.close()
})
beforeEach(() => {
  answers.clear()
  asked = []
  most = 0
})

/** Has a manifest under its digest; returns a descriptor of it. */
function put(type: string, members: object, tag?: string) {
  const body = JSON.stringify({ schemaVersion: 2, mediaType: type, ...members })
  const digest = digestOf(body)
  const answer = (response: ServerResponse) =>
    void response.writeHead(200, { 'content-type': type, 'docker-content-digest': digest }).end(body)
  answers.set(`manifests/${digest}`, answer)
  if (tag !== undefined) answers.set(`manifests/${tag}`, answer)
  return { mediaType: type, digest, size: body.length }
}
const blob = (name: string, mediaType = 'application/vnd.oci.image.layer.v1.tar') => ({
  mediaType,
  digest: digestOf(name),
  size: name.length,
})
const image = (...layers: readonly object[]) => put(MANIFEST, { config: blob('config'), layers })
const list = (text: string) => listBlobs(peer, parseImageReference(text), AbortSignal.timeout(20_000))
const door = (credentials = 'ask') =>
  createDoorClient({ peer, name: 'a/b', credentials, signal: AbortSignal.timeout(20_000) })

test('the blobs of all platforms are found by one request after the other, each manifest read once', async () => {
  const images = Array.from({ length: 20 }, (_, at) => image(blob(`layer ${at}`), blob('shared')))
  const nydus = image(blob('other'), blob('data', 'application/vnd.oci.image.layer.nydus.blob.v1'))
  const inner = put(INDEX, { manifests: [...images, nydus] })
  put(INDEX, { manifests: [inner, nydus, ...images.slice(0, 3)] }, 'v1')
  const blobs = await list('a/b:v1')
  const names = [...images.map((_, at) => `layer ${at}`), 'shared', 'data']
  assert.deepEqual(new Set(blobs.map(({ digest }) => digest)), new Set(names.map(digestOf)))
  assert.equal(asked.length, 1 + 1 + 20 + 1)
  assert.equal(most, 1)
})

test('an image without layers, and an index of too much, are refused', async () => {
  put(INDEX, { manifests: [image()] }, 'empty')
  await assert.rejects(list('a/b:empty'), NoBlobsError)
  const many = Array.from({ length: 1025 }, (_, at) => ({ ...blob(`manifest ${at}`), mediaType: MANIFEST }))
  put(INDEX, { manifests: many }, 'many')
  await assert.rejects(list('a/b:many'), { code: 'MANIFEST_INVALID', message: /more than 1024/ })
})

test('a digest may name a blob, and the refusal of the manifest is told when it names nothing', async () => {
  const { digest } = blob('alone')
  answers.set(`blobs/${digest}`, response => void response.writeHead(200, { 'content-length': 5 }).end())
  const [only, ...others] = await list(`a/b@${digest}`)
  assert.deepEqual([only?.digest, only?.size, others.length], [digest, 5, 0])
  await assert.rejects(list(`a/b@${digestOf('nothing')}`), {
    name: 'GetRefusedError',
    message: 'the origin answered with status 404',
  })
})

test('a manifest that does not end is not read to its end', async () => {
  let sent = 0
  answers.set('manifests/endless', response => {
    response.writeHead(200, { 'content-type': MANIFEST })
    const piece = Buffer.alloc(64 * 1024, ' ')
    const more = () => {
      while (!response.destroyed && response.write(piece)) sent += piece.length
      sent += piece.length
    }
    response.on('drain', more)
    more()
  })
  const client = door()
  await assert.rejects(client.manifest('endless'), GetRefusedError)
  await client.close()
  assert(sent < 32 * 1024 * 1024, `${sent} bytes were taken`)
})

test('who wants credentials is told where they belong', async () => {
  const refuse = (response: ServerResponse) =>
    void response.writeHead(401, { 'www-authenticate': 'Basic' }).end()
  answers.set('manifests/latest', refuse)
  await assert.rejects(list('a/b'), {
    message: /status 401 \(it wants credentials: configure them at the peer for this upstream\)$/,
  })
  const preheated = preheat({
    peer,
    image: parseImageReference('a/b'),
    platform: { os: 'linux', architecture: 'amd64' },
    headers: new Map(),
    onBytes: () => {},
    signal: AbortSignal.timeout(20_000),
  })
  await assert.rejects(preheated, { message: /\(it wants credentials: --header\)$/ })
})

test('a peer that is not there is named', async () => {
  const nobody = createDoorClient({
    peer: 'http://127.0.0.1:1',
    name: 'a/b',
    credentials: '',
    signal: AbortSignal.timeout(20_000),
  })
  await assert.rejects(nobody.open('blobs/x'), { code: 'PEER_NOT_RUNNING', message: /127\.0\.0\.1:1;/ })
  await nobody.close()
})
