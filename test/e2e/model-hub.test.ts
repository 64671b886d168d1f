import assert from 'node:assert/strict'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { before, describe, test } from 'node:test'
import { pythonProgram, requirePrograms, run, useLab } from '@darter/testing'
import { curl } from '../harness/clients/curl.ts'
import { MAIN, type Peer, startPeer, startScheduler } from '../harness/darter.ts'
import { noise } from '../harness/images.ts'
import { type ModelHub, startModelHub } from '../harness/model-hub.ts'

const MIB = 1024 * 1024
const REPOSITORY = 'org/model'
const TOKEN = 'hf_theTokenOfTheTest'
const needed = requirePrograms(['openssl', 'curl'], { python: ['hf'] })

const FILES = {
  'config.json': Buffer.from('{"model_type":"test"}'),
  'README.md': Buffer.from('# A model\n'),
  'model-00001.safetensors': noise('weights-1', 24 * MIB),
  'tokenizer.model': noise('tokenizer', 2 * MIB),
  'sub/model-00002.safetensors': noise('weights-2', 5 * MIB),
}

describe('a model hub that redirects to a store', needed, () => {
  const lab = useLab('model-hub')
  let hub: ModelHub
  let peers: readonly Peer[]
  const peer = (index: number) => peers[index] ?? assert.fail()
  const door = (each: Peer) => `http://${each.mirror.address}/url/${hub.url}`
  const bearer = ['--header', `Authorization: Bearer ${TOKEN}`]
  const resolve = (file: string) => `${REPOSITORY}/resolve/main/${file}`

  before(async () => {
    hub = await startModelHub(lab, { repository: REPOSITORY, token: TOKEN, files: FILES })
    const scheduler = await startScheduler(lab)
    const allow = ['--url-allow', hub.url.replace('https://', ''), '--url-ca', hub.caFile]
    peers = await Promise.all(
      ['a', 'b', 'c'].map(name => startPeer(lab, { name, upstreams: [], scheduler, args: allow })),
    )
  })

  /** Nothing of the caller's has been seen by the store. */
  const assertNoLeak = () => {
    assert(hub.stored.length > 0)
    for (const { headers } of hub.stored) {
      assert.equal(headers.authorization, undefined)
      assert(!JSON.stringify(headers).includes(TOKEN))
    }
  }

  test('three peers fetch a cold file at once: the store is read about once, and sees no token', async context => {
    hub.reset()
    const file = 'model-00001.safetensors'
    const answers = await Promise.all(peers.map(each => curl(`${door(each)}/${resolve(file)}`, bearer)))
    for (const { status, headers, body } of answers) {
      assert.equal(status, 200, body.toString('utf8', 0, 300))
      assert.equal(headers.get('x-darter-digest'), hub.digest(file))
      assert.equal(headers.get('x-repo-commit')?.length, 40)
      assert(body.equals(FILES[file]))
    }
    const ratio = hub.storeBytes() / FILES[file].length
    context.diagnostic(`store bytes ${ratio.toFixed(4)}x`)
    assert(ratio <= 1.05)
    assertNoLeak()
    assert(hub.asked.every(({ token }) => token))
  })

  test('without a token it is refused, cached or not, and at another revision it is the same blob', async () => {
    const url = `${door(peer(0))}/${resolve('model-00001.safetensors')}`
    const refused = await curl(url)
    assert.equal(refused.status, 401)
    assert.equal(refused.headers.get('x-error-code'), 'GatedRepo')
    hub.reset()
    const other = await curl(url.replace('/main/', '/v2/'), [...bearer, '--range', '0-999'])
    assert.equal(other.status, 206)
    assert.equal(hub.storeBytes(), 0)
  })

  test('darter get takes it with a header, and checks what the hub says', async () => {
    const target = join(lab.makeDir('get'), 'weights')
    const [, port = ''] = peer(1).mirror.address.split(':')
    const { stderr } = await run(process.execPath, [
      ...[MAIN, 'get', '--door-port', port, `${hub.url}/${resolve('sub/model-00002.safetensors')}`],
      ...['-o', target, '--header', `Authorization: Bearer ${TOKEN}`],
    ])
    assert(readFileSync(target).equals(FILES['sub/model-00002.safetensors']))
    assert.match(stderr, new RegExp(hub.digest('sub/model-00002.safetensors')))
    assertNoLeak()
  })

  test('huggingface_hub downloads a repository with HF_ENDPOINT at the door; the next peer has the weights from the first', async () => {
    const download = async (each: Peer, name: string) => {
      const dir = join(lab.makeDir(name), 'model')
      await run(pythonProgram('hf'), ['download', REPOSITORY, '--local-dir', dir], {
        env: {
          HF_ENDPOINT: door(each),
          HF_TOKEN: TOKEN,
          HF_HOME: lab.makeDir(`${name}-home`),
          HF_HUB_DISABLE_TELEMETRY: '1',
          HF_HUB_DISABLE_UPDATE_CHECK: '1',
          NO_PROXY: '*',
        },
      })
      const names = readdirSync(dir, { recursive: true, encoding: 'utf8' }).filter(
        path => !path.startsWith('.cache') && statSync(join(dir, path)).isFile(),
      )
      assert.deepEqual(names.toSorted(), Object.keys(FILES).toSorted())
      for (const [path, bytes] of Object.entries(FILES)) assert(readFileSync(join(dir, path)).equals(bytes))
    }
    hub.reset()
    await download(peer(2), 'first')
    assertNoLeak()
    assert.equal(hub.storeBytes(), FILES['tokenizer.model'].length)
    hub.reset()
    await download(peer(0), 'second')
    assert.equal(hub.storeBytes(), 0)
    for (const each of peers) assert(!JSON.stringify(each.log()).includes(TOKEN))
  })

  test('a hub whose authority is not trusted is not read', async () => {
    const strict = await startPeer(lab, {
      name: 'strict',
      upstreams: [],
      args: ['--url-allow', hub.url.replace('https://', '')],
    })
    const refused = await curl(`${door(strict)}/${resolve('config.json')}`, bearer)
    assert.equal(refused.status, 503)
    assert.match(refused.body.toString('utf8'), /certificate does not verify/)
  })
})
