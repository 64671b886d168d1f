import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { before, describe, test } from 'node:test'
import { type ObjectStore, requirePrograms, run, startObjectStore, until, useLab } from '@darter/testing'
import { AwsClient } from 'aws4fetch'
import { curl } from '../harness/clients/curl.ts'
import { MAIN, type Peer, type Scheduler, startPeer, startScheduler } from '../harness/darter.ts'
import { noise } from '../harness/images.ts'
import { type Meter, startMeter } from '../harness/meter.ts'

const MIB = 1024 * 1024
const needed = requirePrograms(['curl'], { python: ['moto_server'] })
const hash = (bytes: Uint8Array) => createHash('sha256').update(bytes)
const sha256 = (bytes: Uint8Array) => `sha256:${hash(bytes).digest('hex')}`
const door = (peer: Peer, url: string) => `http://${peer.mirror.address}/url/${encodeURIComponent(url)}`

/** A user of the object store who may do anything with S3. Returns its access key. */
async function makeUser(endpoint: string): Promise<{ id: string; secret: string }> {
  const root = new AwsClient({
    accessKeyId: 'root',
    secretAccessKey: 'root',
    service: 'iam',
    region: 'us-east-1',
  })
  const call = async (parameters: Record<string, string>) => {
    const body = new URLSearchParams({ Version: '2010-05-08', ...parameters })
    const answer = await root.fetch(`${endpoint}/`, {
      method: 'POST',
      body: body.toString(),
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
    })
    const text = await answer.text()
    assert(answer.ok, text)
    return text
  }
  const policy = { Version: '2012-10-17', Statement: [{ Effect: 'Allow', Action: 's3:*', Resource: '*' }] }
  await call({ Action: 'CreateUser', UserName: 'reader' })
  await call({
    Action: 'PutUserPolicy',
    UserName: 'reader',
    PolicyName: 'read',
    PolicyDocument: JSON.stringify(policy),
  })
  const made = await call({ Action: 'CreateAccessKey', UserName: 'reader' })
  const value = (name: string) =>
    new RegExp(`<${name}>([^<]+)</${name}>`).exec(made)?.[1] ?? assert.fail(made)
  return { id: value('AccessKeyId'), secret: value('SecretAccessKey') }
}

describe('objects of a store that speaks S3', needed, () => {
  const lab = useLab('s3')
  const keys = {
    model: 'models/a b+c (1)!.bin',
    checked: 'models/checked.bin',
    seeded: 'models/seeded.bin',
    other: 'elsewhere/x.bin',
  }
  const model = noise('model', 9 * MIB)
  const checked = noise('checked', 6 * MIB)
  const seeded = noise('seeded', 7 * MIB)
  const bucket = 'weights'
  let store: ObjectStore
  let meter: Meter
  let user: { id: string; secret: string }
  let scheduler: Scheduler
  /** The peers' credentials, as lines of their configuration. */
  let own: readonly string[]
  let peers: readonly Peer[]

  const urlOf = (key: string) => `s3://${bucket}/${key.split('/').map(encodeURIComponent).join('/')}`
  /** A peer whose only bucket is the one of the test, with what the map says of it. */
  const startWith = (
    name: string,
    lines: readonly string[],
    more: {
      scheduler?: Scheduler
      env?: Record<string, string>
      args?: readonly string[]
    } = {},
  ) => {
    const file = join(lab.makeDir(`${name}-config`), 'darter.yaml')
    const upstream = ['name: models', `url: s3://${bucket}/models`, `endpoint: ${meter.url}`, ...lines]
    writeFileSync(file, `upstreams:\n  - ${upstream.join('\n    ')}\n`)
    return startPeer(lab, {
      name,
      upstreams: [],
      scheduler: more.scheduler,
      args: ['--config', file, ...(more.args ?? [])],
      env: { HOME: '/nonexistent', ...more.env },
    })
  }

  before(async () => {
    store = await startObjectStore(lab)
    meter = await startMeter(lab, store.endpoint.replace('http://', ''))
    user = await makeUser(store.endpoint)
    const client = new AwsClient({
      accessKeyId: user.id,
      secretAccessKey: user.secret,
      service: 's3',
      region: 'us-east-1',
    })
    const put = async (path: string, bytes?: Uint8Array, headers: Record<string, string> = {}) => {
      const body = bytes === undefined ? null : Buffer.from(bytes)
      const answer = await client.fetch(`${store.endpoint}/${path}`, { method: 'PUT', body, headers })
      assert(answer.ok, await answer.text())
    }
    await put(bucket)
    await put(`${bucket}/${keys.model.split('/').map(encodeURIComponent).join('/')}`, model)
    for (const [key, bytes] of [
      [keys.checked, checked],
      [keys.seeded, seeded],
    ] as const) {
      await put(`${bucket}/${key}`, bytes, {
        'x-amz-sdk-checksum-algorithm': 'SHA256',
        'x-amz-checksum-sha256': hash(bytes).digest('base64'),
      })
    }
    await put(`${bucket}/${keys.other}`, noise('other', 1000))
    await store.enforceSignatures()
    scheduler = await startScheduler(lab)
    const secretFile = join(lab.makeDir('secret'), 'key')
    writeFileSync(secretFile, `${user.secret}\n`, { mode: 0o600 })
    own = [`username: ${user.id}`, `password-file: ${secretFile}`]
    peers = await Promise.all(['a', 'b', 'c'].map(name => startWith(name, own, { scheduler })))
  })
  const peer = (index: number) => peers[index] ?? assert.fail()

  test('an object is read with signed ranges, by three peers about once', async context => {
    meter.reset()
    const wanted = ['--header', `X-Darter-Digest: ${sha256(model)}`]
    const answers = await Promise.all(peers.map(each => curl(door(each, urlOf(keys.model)), wanted)))
    for (const { status, body } of answers) {
      assert.equal(status, 200, body.toString('utf8', 0, 500))
      assert(body.equals(model))
    }
    const ratio = meter.bodyBytes() / model.length
    context.diagnostic(`origin bytes ${ratio.toFixed(4)}x in ${meter.requests.length} requests`)
    assert(ratio <= 1.05)
    assert(meter.requests.some(({ range }) => range !== undefined))
    for (const each of peers) assert(!JSON.stringify(each.log()).includes(user.secret))
  })

  test('a sha256 that the store keeps needs no digest from the caller', async () => {
    const first = await curl(door(peer(0), urlOf(keys.checked)))
    assert.equal(first.status, 200)
    assert(first.body.equals(checked))
    assert.equal(first.headers.get('x-darter-digest'), sha256(checked))
    meter.reset()
    assert((await curl(door(peer(1), urlOf(keys.checked)))).body.equals(checked))
    assert.equal(meter.bodyBytes(), 0)
  })

  test('darter get takes an s3 URL', async () => {
    const dir = lab.makeDir('get')
    const [, port = ''] = peer(2).mirror.address.split(':')
    await run(process.execPath, [MAIN, 'get', '--door-port', port, urlOf(keys.model), '-o', dir])
    assert(readFileSync(join(dir, 'a b+c (1)!.bin')).equals(model))
    const missing = ['get', '--door-port', port, `s3://${bucket}/models/missing`, '-o', join(dir, 'x')]
    const { stderr } = await run(process.execPath, [MAIN, ...missing], { codes: [1] })
    assert.match(stderr, /^darter: /)
  })

  test('a seed reads a cold object for the others, with its own credentials', async () => {
    const seed = await startWith('seed', own, { scheduler, args: ['--seed'] })
    const blind = await startWith('blind', ['username: nobody', 'password: nothing'], {
      scheduler,
      args: ['--seed'],
    })
    meter.reset()
    const answers = await Promise.all(peers.map(each => curl(door(each, urlOf(keys.seeded)))))
    for (const { body } of answers) assert(body.equals(seeded))
    assert(meter.bodyBytes() <= 1.05 * seeded.length)
    const calls = (of: Peer, outcome: string) => of.metric('darter_seed_calls_total', { outcome })
    await until('one was asked, and has it or may not', async () => {
      return (await calls(seed, 'held')) + (await calls(blind, 'refused')) === 1
    })
    await Promise.all([seed, blind].map(each => each.daemon.stop()))
  })

  test('nothing else of the store can be had: other keys, other buckets, lists, other requests', async () => {
    meter.reset()
    const refused: readonly [string, number][] = [
      [urlOf(keys.other), 403],
      [`s3://${bucket}/models/%2e%2e/${keys.other}`, 403],
      [`s3://${bucket}/models%2f..%2felsewhere%2fx.bin`, 400],
      [`s3://${bucket}/`, 400],
      [`s3://${bucket}`, 400],
      ['s3://another/models/x', 403],
      [`${urlOf(keys.model)}?acl`, 400],
      [`${meter.url}/${bucket}/${keys.other}`, 403],
    ]
    for (const [url, status] of refused) {
      const answer = await curl(door(peer(0), url))
      assert.equal(answer.status, status, `${url}: ${answer.body.toString()}`)
    }
    assert.equal(meter.requests.length, 0)
    const missing = await curl(door(peer(0), `s3://${bucket}/models/missing`))
    assert.equal(missing.status, 404)
  })

  test('credentials come from a profile of a shared file, or from the environment; wrong ones do not do', async () => {
    const file = join(lab.makeDir('aws'), 'credentials')
    writeFileSync(
      file,
      `[default]\naws_access_key_id = nobody\naws_secret_access_key = nothing\n[profile.x]\naws_access_key_id=${user.id}\naws_secret_access_key = ${user.secret}\n`,
    )
    const shared = await startWith('shared', [`credentials-file: ${file}`, 'profile: profile.x'])
    assert.equal((await curl(door(shared, urlOf(keys.model)))).status, 200)
    const environment = await startWith('environment', [], {
      env: { AWS_ACCESS_KEY_ID: user.id, AWS_SECRET_ACCESS_KEY: user.secret },
    })
    assert.equal((await curl(door(environment, urlOf(keys.model)))).status, 200)
    const wrong = await startWith('wrong', [`username: ${user.id}`, 'password: "not the key"'])
    const refused = await curl(door(wrong, urlOf(keys.model)))
    assert.equal(refused.status, 403)
    assert.match(refused.body.toString('utf8'), /SignatureDoesNotMatch/)
    const unsigned = await startWith('unsigned', [])
    assert.equal((await curl(door(unsigned, urlOf(keys.model)))).status, 403)
    for (const each of [shared, environment, wrong, unsigned]) await each.daemon.stop()
  })
})
