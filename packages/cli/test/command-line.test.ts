import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { optionRows, flagOf, variableOf } from '../src/config/schema.ts'
import { referenceText } from '../src/reference.ts'

const MAIN = join(import.meta.dirname, '..', 'src', 'main.ts')
let dir = ''

before(async () => {
  dir = await mkdtemp(join(tmpdir(), 'darter-cli-'))
})
after(() => rm(dir, { recursive: true }))

/** Runs the real program in an empty directory. */
async function darter(args: readonly string[], env: Readonly<Record<string, string>> = {}) {
  const child = spawn(process.execPath, [MAIN, ...args], {
    cwd: dir,
    env: { PATH: process.env['PATH'], HOME: dir, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let stdout = ''
  let stderr = ''
  child.stdout.on('data', data => (stdout += data))
  child.stderr.on('data', data => (stderr += data))
  const code = await new Promise(resolve => child.on('close', resolve))
  return { code, stdout, stderr }
}

test('help names every command, and every option with its variable and default', async () => {
  const top = await darter(['--help'])
  assert.equal(top.code, 0)
  for (const name of ['up', 'scheduler', 'peer', 'demo', 'get', 'status', 'config']) {
    assert.match(top.stdout, new RegExp(`^  ${name} `, 'm'))
  }
  const { stdout, code } = await darter(['config', '--help'])
  assert.equal(code, 0)
  const words = stdout.replaceAll(/\s+/g, ' ')
  for (const [key, row] of optionRows()) {
    const flag = row.defaultText === 'true' ? flagOf(key, row).replace('--', '--no-') : flagOf(key, row)
    assert.ok(words.includes(`${flag} `), flag)
    assert.ok(words.includes(`(default: ${row.defaultText}; env: ${variableOf(key)})`), key)
  }
})

test('the flags that programs set for V8 are known to it', async () => {
  for (const name of ['peer', 'scheduler']) {
    const { stderr, code } = await darter([name, '--help'])
    assert.deepEqual({ stderr, code }, { stderr: '', code: 0 }, name)
  }
})

test('each command’s help has the options of its program and no others', async () => {
  const [peer, scheduler, up] = await Promise.all(
    ['peer', 'scheduler', 'up'].map(async name => (await darter([name, '--help'])).stdout),
  )
  assert.match(peer ?? '', /--scheduler <MULTIADDR>/)
  assert.doesNotMatch(peer ?? '', /--scheduler-port/)
  assert.match(scheduler ?? '', /--scheduler-port <PORT>/)
  assert.doesNotMatch(scheduler ?? '', /--door-port/)
  assert.match(up ?? '', /--door-port[^]*--scheduler-port/)
  assert.doesNotMatch(up ?? '', /--scheduler </)
})

test('config prints YAML alone on standard output, with what each value came from', async () => {
  await writeFile(join(dir, 'darter.yaml'), 'door:\n  port: 7001\nzone: attic\n')
  const { code, stdout, stderr } = await darter(['config', '--door-port', '7003'], { DARTER_ZONE: 'cellar' })
  await rm(join(dir, 'darter.yaml'))
  assert.equal(stderr, '')
  assert.equal(code, 0)
  assert.match(stdout, /^ {2}port: 7003 # --door-port$/m)
  assert.match(stdout, /^zone: cellar # DARTER_ZONE$/m)
  assert.match(stdout, new RegExp(`^data-dir: ${join(dir, '.local/state/darter')} # default$`, 'm'))
})

test('the file is the one that is named; a missing one is an error', async () => {
  const file = join(dir, 'other.yaml')
  await writeFile(file, 'zone: attic\n')
  assert.match((await darter(['config', '--config', file])).stdout, /^zone: attic # /m)
  assert.match((await darter(['config'], { DARTER_CONFIG: file })).stdout, /^zone: attic # /m)
  assert.match((await darter(['config'], { DARTER_CONFIG: '' })).stdout, /^zone: "" # default/m)
  const missing = await darter(['config', '--config', 'nowhere.yaml'])
  assert.equal(missing.code, 2)
  assert.match(missing.stderr, /^darter: cannot read the configuration file .*nowhere\.yaml: ENOENT/)
})

test('wrong use exits 2 with one line for each problem and nothing on standard output', async () => {
  const runs = [
    {
      args: ['config', '--door-port', 'x', '--tags-ttl', '1'],
      says: /^darter: door\.port .*\ndarter: tags\.ttl .*\n$/,
    },
    {
      args: ['config', '--dor-port', '1'],
      says: /^darter: unknown option '--dor-port'\n\(Did you mean --door-port\?\)\n$/,
    },
    { args: ['cofnig'], says: /^darter: unknown command 'cofnig'\n\(Did you mean config\?\)\n$/ },
    { args: ['config', 'extra'], says: /^darter: too many arguments/ },
    { args: ['demo', '--size', '10MB'], says: /^darter: .*'--size <SIZE>' argument '10MB' is invalid/ },
    {
      args: ['config', '--default-upstream', 'a'],
      says: /^darter: default-upstream \(--default-upstream\): a is not one of/,
    },
    {
      args: ['get', 'https://h/x', '--header', 'secret'],
      says: /^darter: --header must be 'Name: value'\n$/,
    },
    {
      args: ['get', 'https://h/x', '--header', 'X-Token: secret', '--header', 'x-token: secret'],
      says: /^darter: --header names x-token twice\n$/,
    },
    {
      args: ['preheat', 'a/b', '--header', 'X-Token: secret'],
      says: /^darter: --header must be Authorization: no other goes on to the registry\n$/,
    },
  ]
  for (const { args, says } of runs) {
    const { code, stdout, stderr } = await darter(args)
    assert.match(stderr, says)
    assert.doesNotMatch(stderr, /secret/)
    assert.equal(stdout, '')
    assert.equal(code, 2, args.join(' '))
  }
})

test('the reference has every option and no row that is not one', () => {
  const text = referenceText()
  const keys = [...text.matchAll(/^### `([^`[]+)(?:\[\])?`$/gm)].map(match => match[1])
  assert.deepEqual(
    keys,
    optionRows().map(([key]) => key),
  )
})
