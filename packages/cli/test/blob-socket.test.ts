import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { parseDigest } from '@darter/oci'
import { GetTargetError } from '../src/get/errors.ts'
import { openBlobSocket } from '../src/images/socket.ts'

const dir = mkdtempSync(join(tmpdir(), 'darter-socket-'))
const children: ChildProcess[] = []
after(() => {
  for (const child of children) child.kill('SIGKILL')
  rmSync(dir, { recursive: true })
})

const hex = 'a'.repeat(64)
const blob = { digest: parseDigest(`sha256:${hex}`), hex, size: 1, path: '/' }
const open = (path: string) => openBlobSocket(path, blob, { host: '127.0.0.1', port: 1 })

/** A process that listens at a path and does nothing any more. */
async function listener(path: string, backlog: number): Promise<ChildProcess> {
  const script = `require('node:net').createServer().listen({ path: ${JSON.stringify(path)}, backlog: ${backlog} }, () => {
    process.stdout.write('up')
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)
  })`
  const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] })
  children.push(child)
  await once(child.stdout, 'data')
  return child
}

/** Connects until the listener's queue takes no more. */
async function fill(path: string): Promise<readonly Socket[]> {
  const sockets: Socket[] = []
  for (;;) {
    const socket = connect(path)
    const failed = await new Promise<NodeJS.ErrnoException | undefined>(resolve => {
      socket.once('connect', () => resolve(undefined)).once('error', resolve)
    })
    if (failed?.code === 'EAGAIN') return sockets
    if (failed !== undefined) throw failed
    sockets.push(socket)
  }
}

test('the socket of a process that is gone is replaced; one that may be alive, and anything else, is left alone', async () => {
  const path = join(dir, 'one.sock')
  const child = await listener(path, 1)
  await assert.rejects(open(path), { name: 'GetTargetError', message: /another process listens/ })
  const waiting = await fill(path)
  const { ino } = statSync(path)
  await assert.rejects(open(path), { name: 'GetTargetError', message: /may be in use: .*EAGAIN/ })
  assert.equal(statSync(path).ino, ino)
  for (const socket of waiting) socket.on('error', () => {}).destroy()

  child.kill('SIGKILL')
  await once(child, 'close')
  const socket = await open(path)
  assert.equal(statSync(path).mode & 0o777, 0o600)
  await socket.close()

  const plain = join(dir, 'plain')
  writeFileSync(plain, 'x')
  await assert.rejects(open(plain), GetTargetError)
})
