import assert from 'node:assert/strict'
import { chmod, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it, type TestContext } from 'node:test'
import {
  InsecureFileError,
  InvalidSecretError,
  loadClusterKey,
  loadOrCreateClusterKey,
  loadOrCreateIdentity,
} from '@darter/exchange'

async function directory(t: TestContext): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'darter-identity-'))
  t.after(() => rm(path, { recursive: true }))
  return path
}
const modeOf = async (path: string) => (await stat(path)).mode & 0o777

describe('identity', () => {
  it('is made once, for its owner only', async t => {
    const file = join(await directory(t), 'deep', 'identity')
    const first = await loadOrCreateIdentity(file)
    assert.equal(await modeOf(file), 0o600)
    assert.equal(await modeOf(join(file, '..')), 0o700)
    const again = await loadOrCreateIdentity(file)
    assert.ok(again.equals(first))
    assert.deepEqual(await readdir(join(file, '..')), ['identity'])
  })

  it('is one, whoever makes it first', async t => {
    const file = join(await directory(t), 'identity')
    const keys = await Promise.all(Array.from({ length: 8 }, () => loadOrCreateIdentity(file)))
    for (const key of keys) assert.equal(key.publicKey.toString(), keys[0]?.publicKey.toString())
  })

  it('is refused when others may read it', async t => {
    const file = join(await directory(t), 'identity')
    await loadOrCreateIdentity(file)
    for (const mode of [0o644, 0o640, 0o604, 0o602]) {
      await chmod(file, mode)
      await assert.rejects(loadOrCreateIdentity(file), InsecureFileError)
    }
  })

  it('is not replaced when it is damaged', async t => {
    const file = join(await directory(t), 'identity')
    for (const text of ['', 'rubbish', Buffer.alloc(68, 8).toString('base64'), 'A'.repeat(5000)]) {
      await writeFile(file, text, { mode: 0o600 })
      await assert.rejects(loadOrCreateIdentity(file), InvalidSecretError)
      assert.equal(await readFile(file, 'utf8'), text)
    }
  })
})

describe('cluster key', () => {
  it('is 32 random bytes as text', async t => {
    const file = join(await directory(t), 'key')
    const key = await loadOrCreateClusterKey(file)
    assert.equal(key.symmetricKeySize, 32)
    assert.match(await readFile(file, 'utf8'), /^[0-9a-f]{64}\n$/)
    assert.equal(await modeOf(file), 0o600)
    assert.ok((await loadClusterKey(file)).equals(key))
    assert.ok(!(await loadOrCreateClusterKey(`${file}2`)).equals(key))
  })

  it('is not made where one must exist, nor believed when it is short', async t => {
    const file = join(await directory(t), 'key')
    await assert.rejects(loadClusterKey(file), { code: 'CLUSTER_KEY_MISSING' })
    await writeFile(file, 'ab'.repeat(31), { mode: 0o600 })
    await assert.rejects(loadClusterKey(file), InvalidSecretError)
  })
})
