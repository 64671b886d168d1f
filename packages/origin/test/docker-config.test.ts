import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { after, before, test } from 'node:test'
import { createDockerConfigSource, OriginCredentialsError } from '@darter/origin'

const { signal } = new AbortController()
let directory = ''
const path = (name: string) => join(directory, name)
const env = () => ({
  ...process.env,
  PATH: `${directory}${delimiter}${process.env['PATH']}`,
  HELPER_DIR: directory,
})
const base64 = (text: string) => Buffer.from(text).toString('base64')

before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'darter-credentials-'))
})
after(() => rm(directory, { recursive: true, force: true }))

async function find(config: unknown, hosts: readonly string[], helperTimeoutMs = 5000) {
  const file = path('config.json')
  await writeFile(file, typeof config === 'string' ? config : JSON.stringify(config))
  return createDockerConfigSource({ file, hosts, env: env(), helperTimeoutMs })(signal)
}

/** A helper as a shell script. */
const install = (name: string, script: string) =>
  writeFile(path(`docker-credential-${name}`), `#!/bin/sh\n${script}\n`, { mode: 0o755 })

test('entries of "auths" are found by host, however the key is written', async () => {
  const password = { kind: 'password', username: 'u', password: 'p:q' }
  for (const key of ['reg.test', 'https://reg.test', 'http://reg.test/v1/', 'https://reg.test/v2/']) {
    assert.deepEqual(
      await find({ auths: { other: {}, [key]: { auth: base64('u:p:q') } } }, ['reg.test']),
      password,
    )
  }
  assert.deepEqual(
    await find({ auths: { 'reg.test:5000': { auth: base64('u:p:q') } } }, ['reg.test:5000']),
    password,
  )
  assert.equal(await find({ auths: { 'reg.test:5000': { auth: base64('u:p') } } }, ['reg.test']), undefined)
  assert.deepEqual(await find({ auths: { a: { username: 'u', password: 'p:q' } } }, ['a']), password)
  assert.deepEqual(await find({ auths: { a: { auth: base64('u:'), identitytoken: 't' } } }, ['a']), {
    kind: 'identityToken',
    token: 't',
  })
})

test('docker.io is found under the key that docker login writes', async () => {
  const config = { auths: { 'https://index.docker.io/v1/': { auth: base64('u:p') } } }
  for (const host of ['docker.io', 'registry-1.docker.io']) {
    assert.deepEqual(await find(config, [host]), { kind: 'password', username: 'u', password: 'p' })
  }
})

test('no file, no entry and an empty entry mean no credentials', async () => {
  const missing = createDockerConfigSource({ file: path('missing.json'), hosts: ['a'] })
  assert.equal(await missing(signal), undefined)
  for (const config of [
    {},
    [],
    { auths: null },
    { auths: { b: { auth: base64('u:p') } } },
    { auths: { a: {} } },
  ]) {
    assert.equal(await find(config, ['a']), undefined)
  }
})

test('a malformed file is named, its content is not', async () => {
  for (const config of [
    '{"auths": {"a": {"auth": "c2VjcmV0"',
    { auths: { a: { auth: base64('secret') } } },
  ]) {
    await assert.rejects(find(config, ['a']), error => {
      assert.ok(error instanceof OriginCredentialsError)
      assert.match(error.message, /config\.json/)
      assert.doesNotMatch(`${error.message} ${String(error.cause)}`, /secret|c2VjcmV0/)
      return true
    })
  }
  const unreadable = createDockerConfigSource({ file: directory, hosts: ['a'] })
  await assert.rejects(unreadable(signal), OriginCredentialsError)
})

test('a helper is asked for the host, and goes before the store and the file', async () => {
  await install(
    'one',
    'cat > "$HELPER_DIR/asked"; echo \'{"ServerURL":"x","Username":"from","Secret":"one"}\'',
  )
  await install('two', 'echo \'{"Username":"<token>","Secret":"two"}\'')
  const auths = { a: { auth: base64('u:p') } }
  assert.deepEqual(await find({ auths, credsStore: 'two', credHelpers: { a: 'one' } }, ['a']), {
    kind: 'password',
    username: 'from',
    password: 'one',
  })
  assert.equal(await readFile(path('asked'), 'utf8'), 'a')
  assert.deepEqual(await find({ auths, credsStore: 'two', credHelpers: { b: 'one' } }, ['a']), {
    kind: 'identityToken',
    token: 'two',
  })
  await find({ credHelpers: { 'docker.io': 'one' } }, ['docker.io'])
  assert.equal(await readFile(path('asked'), 'utf8'), 'https://index.docker.io/v1/')
})

test('a helper that knows nothing leaves it to the file', async () => {
  await install('none', 'echo "credentials not found in native keychain"; exit 1')
  const auths = { a: { auth: base64('u:p') } }
  assert.deepEqual(await find({ auths, credsStore: 'none' }, ['a']), {
    kind: 'password',
    username: 'u',
    password: 'p',
  })
  assert.equal(await find({ credsStore: 'none' }, ['a']), undefined)
})

test('a helper that fails, rambles, is missing or is a path is an error without its output', async () => {
  await install('fails', 'echo hidden; echo hidden >&2; exit 3')
  await install('rambles', 'echo hidden')
  await install('floods', 'head -c 1000000 /dev/zero')
  for (const helper of ['fails', 'rambles', 'floods', 'missing', '../bin/sh', 'a b', 7]) {
    await assert.rejects(find({ credHelpers: { a: helper } }, ['a']), error => {
      assert.ok(error instanceof OriginCredentialsError, String(error))
      assert.doesNotMatch(error.message, /hidden/)
      return true
    })
  }
})

test('a helper that hangs is killed in time, with what it started left behind', async () => {
  await install('hangs', 'echo $$ > "$HELPER_DIR/pid"; sleep 30 & echo $! > "$HELPER_DIR/child"; wait')
  await assert.rejects(find({ credHelpers: { a: 'hangs' } }, ['a'], 2000), /longer than 2000 ms/)
  process.kill(Number(await readFile(path('child'), 'utf8')))
  const pid = Number(await readFile(path('pid'), 'utf8'))
  // Killed, and then reaped by this process.
  for (let gone = false; !gone; ) {
    try {
      process.kill(pid, 0)
      await new Promise(setImmediate)
    } catch {
      gone = true
    }
  }
})
