import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, rm, stat, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterEach, beforeEach, test } from 'node:test'

const MAIN = join(import.meta.dirname, '..', 'src', 'main.ts')
const ANY_PORTS = ['door', 'admin', 'swarm', 'swarm-data', 'scheduler', 'scheduler-admin']
let dir = ''
const children = new Set<ChildProcess>()

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'darter-cli-'))
  await mkdir(join(dir, 'image'))
  await writeFile(join(dir, 'image', 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}')
  await writeFile(join(dir, 'image', 'index.json'), '{"schemaVersion":2,"manifests":[]}')
})
afterEach(async () => {
  for (const child of children) child.kill('SIGKILL')
  children.clear()
  await rm(dir, { recursive: true })
})

/** Starts the real program in a directory of its own. */
function start(args: readonly string[]) {
  const child = spawn(process.execPath, [MAIN, ...args], {
    cwd: dir,
    env: { PATH: process.env['PATH'], HOME: dir, DARTER_CONFIG: '' },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  children.add(child)
  let stdout = ''
  child.stdout.on('data', data => (stdout += data))
  const lines: string[] = []
  const waiting = new Set<() => void>()
  createInterface(child.stderr).on('line', line => {
    lines.push(line)
    for (const look of waiting) look()
  })
  const closed = once(child, 'close').then(([code]) => {
    children.delete(child)
    for (const look of waiting) look()
    return Number(code)
  })
  /** The first line of standard error that matches; fails when the program ends without one. */
  const line = (pattern: RegExp) =>
    new Promise<string>((resolve, reject) => {
      const look = () => {
        const found = lines.find(candidate => pattern.test(candidate))
        if (found !== undefined) resolve(found)
        else if (!children.has(child)) reject(new Error(`it ended without ${pattern}:\n${lines.join('\n')}`))
        else return
        waiting.delete(look)
      }
      waiting.add(look)
      look()
    })
  return { child, closed, line, lines, stdout: () => stdout }
}

const anyPorts = (names: readonly string[]) => names.flatMap(name => [`--${name}-port`, '0'])

test('up runs a scheduler and a peer that is its member, tells its status, and stops cleanly', async () => {
  const up = start([
    'up',
    ...anyPorts(ANY_PORTS),
    ...['--log-format', 'json', '--no-default-upstreams', '--upstream', 'local=oci-layout:image'],
  ])
  const scheduler = JSON.parse(await up.line(/"scheduler started"/))
  const peer = JSON.parse(await up.line(/"peer started"/))
  await up.line(/"scheduler connected"/)
  const answer = await fetch(`http://127.0.0.1:${peer.door.port}/v2/`)
  assert.equal(answer.status, 200)
  await answer.arrayBuffer()
  for (const { port } of [peer.admin, scheduler.admin]) {
    const ready = await fetch(`http://127.0.0.1:${port}/readyz`)
    assert.equal(ready.status, 200)
    await ready.arrayBuffer()
  }

  const admin = [
    '--admin-port',
    String(peer.admin.port),
    '--scheduler-admin-port',
    String(scheduler.admin.port),
  ]
  const json = start(['status', '--json', ...admin])
  assert.equal(await json.closed, 0)
  const status = JSON.parse(json.stdout())
  assert.equal(status.peer.scheduler, 'connected')
  assert.deepEqual(
    status.scheduler.peers.map(({ id }: { id: string }) => id),
    [peer.peer],
  )
  const table = start(['status', ...admin])
  assert.equal(await table.closed, 0)
  assert.match(table.stdout(), /scheduler +│ connected/)
  assert.match(table.stdout(), /Peers: 1\n/)

  const state = join(dir, '.local/state/darter')
  for (const file of ['cluster.key', 'peer.key', 'scheduler.key']) {
    assert.equal((await stat(join(state, file))).mode & 0o777, 0o600, file)
  }
  assert.equal((await stat(state)).mode & 0o777, 0o700)
  up.child.kill('SIGTERM')
  assert.equal(await up.closed, 0)
  assert.equal(up.stdout(), '')
})

test('a start says in plain words how clients and other machines are pointed here', async () => {
  const up = start(['up', ...anyPorts(ANY_PORTS)])
  await up.line(/^ {2}curl +curl http:\/\/127\.0\.0\.1:\d+\/v2\/docker\.io\//)
  await up.line(/--scheduler \/ip4\/127\.0\.0\.1\/tcp\/\d+\/p2p\/\w+ --cluster-key-file cluster\.key$/)
  up.child.kill('SIGINT')
  assert.equal(await up.closed, 0)
})

test('a peer joins a scheduler with its address and its key; without the key it does not start', async () => {
  const scheduler = start([
    'scheduler',
    ...anyPorts(['scheduler', 'scheduler-admin']),
    '--log-format',
    'json',
  ])
  const [address] = JSON.parse(await scheduler.line(/"scheduler started"/)).control
  const flags = ['peer', ...anyPorts(ANY_PORTS.slice(0, 4)), '--log-format', 'json', '--scheduler', address]
  const key = join(dir, '.local/state/darter/cluster.key')
  const stranger = start([...flags, '--data-dir', 'other', '--cluster-key-file', 'nowhere.key'])
  await stranger.line(/^darter: .*nowhere\.key/)
  assert.equal(await stranger.closed, 1)
  const peer = start([...flags, '--data-dir', 'other', '--cluster-key-file', key])
  await peer.line(/"scheduler connected"/)
  for (const { child, closed } of [peer, scheduler]) {
    child.kill('SIGTERM')
    assert.equal(await closed, 0)
  }
})

test('a port in use is one line and exit code 1', async t => {
  const taken = createServer().listen(0, '127.0.0.1')
  await once(taken, 'listening')
  t.after(() => taken.close())
  const address = taken.address()
  const port = typeof address === 'object' ? String(address?.port) : ''
  const peer = start(['peer', ...anyPorts(['admin', 'swarm', 'swarm-data']), '--door-port', port])
  await peer.line(new RegExp(`^darter: listen EADDRINUSE: address already in use 127\\.0\\.0\\.1:${port}$`))
  assert.equal(await peer.closed, 1)
})

test('status says what to do when nothing runs', async () => {
  const status = start(['status', '--admin-port', '1', '--scheduler-admin-port', '1'])
  await status.line(/^darter: neither a peer nor a scheduler answers at http:\/\/127\.0\.0\.1:1 /)
  assert.equal(await status.closed, 1)
})

test('up refuses a scheduler to join, wherever it was configured', async () => {
  const address = '/ip4/192.0.2.1/tcp/5005/p2p/12D3KooWGmm5tM5oX7yCCFnWZYqDbEnxWuLtNzLkWFJZFxJ6UmPr'
  await writeFile(join(dir, 'darter.yaml'), `schedulers: [${address}]\n`)
  const up = start(['up', '--config', 'darter.yaml'])
  await up.line(/^darter: schedulers \(.*darter\.yaml:1\) means nothing here/)
  assert.equal(await up.closed, 2)
})
