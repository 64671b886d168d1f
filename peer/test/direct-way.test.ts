import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, Agent, get, type IncomingMessage } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { createLogger, seededRandom, systemClock } from '@darter/runtime'
import { createDiskStore } from '@darter/store'
import type { SpanChoice } from '../src/download/contract.ts'
import { ClientGoneError } from '../src/doors/errors.ts'
import { sendBody } from '../src/doors/send-body.ts'
import { scriptedOrigin } from './support/origin.ts'
import { readsOver } from './support/reads.ts'

const SIZE = 24 * 1024 * 1024 + 321

function content(): Buffer {
  const random = seededRandom(5)
  const bytes = Buffer.alloc(SIZE)
  for (let at = 0; at < SIZE; at += 97) bytes[at] = Math.floor(random() * 256)
  return bytes
}

/** An HTTP server that answers with a blob (`/from-to`: a part of it) from a store on disk. */
async function withServer(
  body: (
    fetch: (path: string, agent?: Agent) => Promise<IncomingMessage>,
    blob: Buffer,
    state: { moved: number; failures: unknown[] },
  ) => Promise<void>,
): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'darter-direct-'))
  const log = createLogger({ level: 'silent', name: 'test' })
  const store = await createDiskStore({ directory, quotaBytes: 2 ** 30, clock: systemClock, log })
  const reads = await readsOver(store)
  await reads.start()
  const blob = content()
  const source = scriptedOrigin(blob, [])
  const upstream = {
    name: 'scripted',
    hosts: [],
    origin: source.origin,
    isPublic: true,
    hasCredentials: false,
  }
  const state = { moved: 0, failures: [] as unknown[] }
  const server = createServer((request, response) => {
    const gone = new AbortController()
    response.once('close', () => {
      if (!response.writableFinished) gone.abort(new ClientGoneError())
    })
    const part = /^\/(\d+)-(\d+)$/.exec(request.url ?? '')
    const span: SpanChoice = () => (part === null ? 'whole' : { from: Number(part[1]), to: Number(part[2]) })
    const answer = async (): Promise<void> => {
      const read = await reads.open({
        upstream,
        repository: 'a/b',
        digest: source.digest,
        span,
        signal: gone.signal,
      })
      assert.ok(!('unsatisfiable' in read))
      const length = read.to - read.from
      response.writeHead(200, { 'content-length': length })
      let sent = 0
      const onPiece = (bytes: number): void => {
        sent += bytes
      }
      await sendBody(response, read.body, length, onPiece, socket =>
        read.goesTo({
          descriptor: () => socket.descriptor(),
          moved: bytes => {
            state.moved += bytes
            socket.moved(bytes)
          },
        }),
      )
      const { fromDisk, fromOrigin, fromPeers } = read.sources()
      assert.equal(sent, length)
      assert.equal(fromDisk + fromOrigin + fromPeers, length)
    }
    answer().catch(error => {
      state.failures.push(error)
      response.destroy()
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  assert.ok(address !== null && typeof address === 'object')
  const { port } = address
  try {
    await body(
      async (path, agent) => {
        const [answer] = (await once(get({ host: '127.0.0.1', port, path, agent }), 'response')) as [
          IncomingMessage,
        ]
        return answer
      },
      blob,
      state,
    )
  } finally {
    server.closeAllConnections()
    server.close()
    await reads.stop(AbortSignal.timeout(1000))
    await store.close()
    await rm(directory, { recursive: true })
  }
}

async function digestOf(answer: IncomingMessage): Promise<string> {
  const hash = createHash('sha256')
  for await (const bytes of answer) hash.update(bytes)
  return hash.digest('hex')
}

function hashOf(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}

describe('a body past this program', () => {
  it('has all bytes of the blob, whole and in parts, on one connection', () =>
    withServer(async (fetch, blob, state) => {
      const agent = new Agent({ keepAlive: true, maxSockets: 1 })
      assert.equal(await digestOf(await fetch('/', agent)), hashOf(blob), 'from the origin')
      const before = state.moved
      assert.equal(await digestOf(await fetch('/', agent)), hashOf(blob))
      assert.ok(state.moved > before)
      for (const [from, to] of [
        [1, SIZE],
        [3_000_000, 20_000_001],
        [SIZE - 5, SIZE],
      ] as const) {
        assert.equal(await digestOf(await fetch(`/${from}-${to}`, agent)), hashOf(blob.subarray(from, to)))
      }
      agent.destroy()
      assert.deepEqual(state.failures, [])
    }))

  it('waits for a client that reads late, and ends when the client goes', () =>
    withServer(async (fetch, blob, state) => {
      for (let i = 0; i < 2; i++) await digestOf(await fetch('/'))
      const late = await fetch('/')
      const gone = await fetch('/')
      assert.equal(await digestOf(await fetch('/')), hashOf(blob), 'another one meanwhile')
      gone.destroy()
      assert.equal(await digestOf(late), hashOf(blob))
      while (state.failures.length === 0) await new Promise(setImmediate)
      assert.ok(state.failures.every(error => error instanceof ClientGoneError))
    }))
})
