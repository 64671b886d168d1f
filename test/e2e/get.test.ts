import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { before, describe, test } from 'node:test'
import { ownEnvironment, requirePrograms, run, until, useLab } from '@darter/testing'
import { MAIN, type Peer, startPeer, startScheduler } from '../harness/darter.ts'
import { noise } from '../harness/images.ts'
import { type Meter, startMeter } from '../harness/meter.ts'
import { basic, type Login } from '../harness/mirror.ts'
import { type FileServer, startFileServer } from '../harness/nginx.ts'

const MIB = 1024 * 1024
const ALICE: Login = { username: 'alice', password: 'opensesame-7731' }
const needed = requirePrograms(['nginx', 'script'])
const sha256 = (bytes: Uint8Array) => `sha256:${createHash('sha256').update(bytes).digest('hex')}`

describe('darter get', needed, () => {
  const lab = useLab('get')
  let files: FileServer
  let meter: Meter
  let peers: readonly Peer[]

  before(async () => {
    files = await startFileServer(lab, { login: ALICE })
    meter = await startMeter(lab, files.address)
    const scheduler = await startScheduler(lab)
    peers = await Promise.all(
      ['a', 'b'].map(name =>
        startPeer(lab, { name, upstreams: [], scheduler, args: ['--url-allow', meter.url] }),
      ),
    )
  })

  const argsOf = (index: number, args: readonly string[]) => {
    const peer = peers[index]
    assert(peer)
    const [, port = ''] = peer.mirror.address.split(':')
    return [MAIN, 'get', '--door-port', port, ...args]
  }
  const get = (index: number, args: readonly string[], codes: readonly number[] = [0]) =>
    run(process.execPath, argsOf(index, args), { codes })
  const put = (name: string, seed: string, size: number) => {
    const bytes = noise(seed, size)
    files.put(name, bytes)
    return { bytes, digest: sha256(bytes), url: `${meter.url}/${name}` }
  }

  test('a file comes whole, is checked, and comes from peers the second time', async () => {
    const dir = lab.makeDir('plain')
    const { bytes, digest, url } = put('models/a%20b.bin', 'plain', 12 * MIB)
    const first = await get(0, [url.replace('%', '%25'), '--digest', digest, '-o', dir])
    assert.deepEqual(readdirSync(dir), ['a%20b.bin'])
    assert(readFileSync(join(dir, 'a%20b.bin')).equals(bytes))
    assert.match(first.stderr, new RegExp(`12\\.0 MiB in .* 100% from the origin\n${digest}\n$`))
    const second = await get(1, [url.replace('%', '%25'), '--digest', digest, '-o', join(dir, 'other')])
    assert(readFileSync(join(dir, 'other')).equals(bytes))
    assert.match(second.stderr, /; 100% from peers/)
  })

  test('standard output gets the bytes alone', async () => {
    const { bytes, url } = put('out.bin', 'out', 3 * MIB)
    const { stdout, stderr } = await get(0, [url, '-o', '-', '--quiet'])
    assert(stdout.equals(bytes))
    assert.equal(stderr, '')
  })

  /** Starts a transfer at 4 MiB/s and kills it when some of the file is there. */
  const killMidway = async (url: string, target: string, more: readonly string[] = []) => {
    meter.setRate(4 * MIB)
    const child = spawn(process.execPath, argsOf(0, [url, '-o', target, ...more]), {
      stdio: 'ignore',
      env: ownEnvironment(),
    })
    const part = `${target}.part`
    await until('some of the file', () => existsSync(part) && statSync(part).size > 3 * MIB)
    child.kill('SIGKILL')
    await once(child, 'close')
    meter.setRate(undefined)
    assert(!existsSync(target))
    assert(!JSON.stringify(readFileSync(`${part}.json`, 'utf8')).includes('secret'))
    return part
  }

  test('what a killed transfer left is gone on with, after a look at it', async () => {
    const dir = lab.makeDir('resume')
    for (const name of ['with', 'without']) {
      const { bytes, digest, url } = put(`resume-${name}.bin`, name, 16 * MIB)
      const target = join(dir, name)
      const more = name === 'with' ? ['--digest', digest] : []
      await killMidway(`${url}?token=secret`, target, more)
      const { stderr } = await get(0, [`${url}?token=secret`, '-o', target, ...more])
      assert.match(stderr, /16\.0 MiB, [\d.]+ MiB of them there already/)
      assert(readFileSync(target).equals(bytes))
    }
    assert.deepEqual(readdirSync(dir).toSorted(), ['with', 'without'])
  })

  test('what is left of another version, or damaged, is not gone on with', async () => {
    const dir = lab.makeDir('other')
    const damaged = put('damaged.bin', 'damaged', 16 * MIB)
    const one = join(dir, 'one')
    const part = await killMidway(damaged.url, one)
    const size = statSync(part).size
    truncateSync(part, size - 4096)
    truncateSync(part, size)
    const again = await get(0, [damaged.url, '-o', one])
    assert.doesNotMatch(again.stderr, /there already/)
    assert(readFileSync(one).equals(damaged.bytes))

    const old = put('changing.bin', 'old', 16 * MIB)
    const two = join(dir, 'two')
    await killMidway(old.url, two)
    // Another caller of the same peer would be answered from its memory for a minute.
    const fresh = put('changing.bin', 'fresh', 15 * MIB)
    const changed = await get(1, [fresh.url, '-o', two])
    assert.doesNotMatch(changed.stderr, /there already/)
    assert(readFileSync(two).equals(fresh.bytes))
  })

  test('an origin that breaks off is gone on with in the same run', async () => {
    const { bytes, url } = put('breaking.bin', 'breaking', 8 * MIB)
    let cuts = 0
    meter.setFault(({ method, path }) =>
      method === 'GET' && path.includes('breaking') && cuts++ < 3
        ? { kind: 'reset', afterBytes: 2 * MIB }
        : undefined,
    )
    const target = join(lab.makeDir('breaking'), 'file')
    await get(0, [url, '-o', target])
    meter.setFault(undefined)
    assert(cuts > 3)
    assert(readFileSync(target).equals(bytes))
  })

  test('a wrong digest ends with a reason and leaves the old file as it was', async () => {
    const dir = lab.makeDir('wrong')
    const target = join(dir, 'file')
    writeFileSync(target, 'before')
    for (const size of [1000, 5 * MIB]) {
      const { url } = put(`wrong-${size}.bin`, 'wrong', size)
      const wrong = sha256(Buffer.from('something else'))
      const { stderr } = await get(0, [url, '--digest', wrong, '-o', target], [1])
      assert.match(stderr, /^darter: .*(?:another|has the) digest/m)
      assert.equal(readFileSync(target, 'utf8'), 'before')
    }
  })

  test('a file is written by one run at a time, and a reader that goes away ends it', async () => {
    const { bytes, url } = put('locked.bin', 'locked', 16 * MIB)
    const target = join(lab.makeDir('locked'), 'file')
    meter.setRate(4 * MIB)
    const first = spawn(process.execPath, argsOf(0, [url, '-o', target, '--quiet']), {
      stdio: 'ignore',
      env: ownEnvironment(),
    })
    const ended = once(first, 'close')
    await until(
      'some of the file',
      () => existsSync(`${target}.part`) && statSync(`${target}.part`).size > MIB,
    )
    const { stderr } = await get(1, [url, '-o', target], [1])
    assert.match(stderr, /^darter: another `darter get` is writing/m)
    meter.setRate(undefined)
    assert.deepEqual(await ended, [0, null])
    assert(readFileSync(target).equals(bytes))

    const words = [process.execPath, ...argsOf(0, [url, '-o', '-'])].join(' ')
    const piped = await run('sh', ['-c', `(${words}; echo "code $?" >&2) | head -c 10 | wc -c`])
    assert.equal(piped.stdout.toString('utf8').trim(), '10')
    assert.match(piped.stderr, /^darter: it cannot be written: .*EPIPE\ncode 1$/m)
  })

  test('credentials are passed on, and are asked for where they are missing', async () => {
    const { bytes, url } = put('private/x.bin', 'private', 2 * MIB)
    const target = join(lab.makeDir('private'), 'file')
    const refused = await get(0, [url, '-o', target], [1])
    assert.match(refused.stderr, /^darter: .*status 401 \(it wants credentials: --header\)$/m)
    await get(0, [url, '-o', target, '--header', `Authorization: ${basic(ALICE)}`])
    assert(readFileSync(target).equals(bytes))
  })

  test('refusals have reasons and exit codes', async () => {
    const dir = lab.makeDir('refused')
    const cases: readonly [readonly string[], number, RegExp][] = [
      [[`${files.url}/x`, '-o', dir], 1, /^darter: .*--url-allow/m],
      [[`${meter.url}/missing`, '-o', join(dir, 'x')], 1, /^darter: .*status 404$/m],
      [[`${meter.url}/`], 1, /^darter: the URL does not end in the name of a file/m],
      [['notaurl'], 2, /^darter: .*https:\/\//m],
      [[`${meter.url}/x`, '--digest', 'sha256:1'], 2, /^darter: .*64/m],
      [[`${meter.url}/x`, '--header', 'nothing'], 2, /^darter: .*Name: value/m],
      [[], 2, /missing required argument/],
    ]
    for (const [args, code, reason] of cases) {
      const { stderr } = await get(0, args, [code])
      assert.match(stderr, reason)
    }
    const nobody = await run(
      process.execPath,
      [MAIN, 'get', '--door-port', '1', `${meter.url}/x`, '-o', join(dir, 'x')],
      { codes: [1] },
    )
    assert.match(nobody.stderr, /^darter: no peer answers at http:\/\/127\.0\.0\.1:1;/m)
    assert(!existsSync(join(dir, 'x')))
  })

  test('on a terminal there is a bar with speed, time left and what comes from peers', async () => {
    const { url, digest } = put('bar.bin', 'bar', 24 * MIB)
    await get(1, [url, '--digest', digest, '-o', join(lab.makeDir('warm'), 'file')])
    const target = join(lab.makeDir('bar'), 'file')
    const words = [process.execPath, ...argsOf(0, [url, '--digest', digest, '-o', target])]
    const { stdout } = await run('script', ['-qec', words.join(' '), '/dev/null'])
    assert.match(
      stdout.toString('utf8'),
      /(?:bar\.bin|file) \[[^\]]*\] .* of 24\.0 MiB {2}.*\/s {2}.* left {2}.* from peers/,
    )
    assert.match(stdout.toString('utf8'), /100% from peers, 0% from this machine/)
  })
})
