import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { ServedChunk } from '@darter/exchange'
import { parseDigest } from '@darter/oci'
import { seededRandom, systemClock } from '@darter/runtime'
import { createMemoryStore } from '@darter/store'
import { Bitfield, MIN_CHUNK_BYTES } from '@darter/swarm'
import type { Notice } from '@darter/wire'
import { OpenBlobs } from '../src/download/open-blobs.ts'
import { Uploader } from '../src/download/uploader.ts'

const CHUNKS = 8
const BLOB = parseDigest(`sha256:${'ab'.repeat(32)}`)
const never = new AbortController().signal

/** An uploader of a blob that is held whole, and the slots that it gives. */
async function start(maxUploads = 32) {
  const store = createMemoryStore({ quotaBytes: 1e9, clock: systemClock })
  const stored = await store.open(BLOB, CHUNKS * MIN_CHUNK_BYTES)
  for (let chunk = 0; chunk < CHUNKS; chunk++) {
    await stored.writeChunk(chunk, new Uint8Array(MIN_CHUNK_BYTES).fill(chunk), new Uint8Array(32))
  }
  const sent: string[] = []
  const uploader = new Uploader({
    blobs: new OpenBlobs(store),
    clock: systemClock,
    random: seededRandom(1),
    maxUploads,
    send: (peer, notice: Notice) => void sent.push(`${notice.type} ${peer}`),
  })
  const introduce = (peer: string) =>
    uploader.interested(BLOB, peer, new Bitfield(CHUNKS), Bitfield.full(CHUNKS))
  const serve = async (chunk: number, peer: string, signal = never): Promise<ServedChunk> => {
    const answer = await uploader.serve(BLOB, chunk, peer, signal)
    assert(typeof answer === 'object', 'refused')
    return answer
  }
  const end = async () => {
    uploader.close()
    stored.release()
    await store.close()
  }
  return { uploader, sent, introduce, serve, end }
}

describe('an uploader', () => {
  it('gives slots, and the chunks that are asked for', async () => {
    const { sent, introduce, serve, end } = await start()
    introduce('a')
    assert.ok(sent.includes('slot a'))
    const chunk = await serve(3, 'a')
    const bytes = new Uint8Array(10)
    assert.equal(await chunk.read(0, bytes), 10)
    assert.deepEqual([...bytes], Array(10).fill(3))
    chunk.release(true)
    await end()
  })

  it('refuses those who have not introduced themselves, and what it does not have', async () => {
    const { uploader, introduce, end } = await start()
    assert.equal(await uploader.serve(BLOB, 0, 'stranger', never), 'missing')
    introduce('a')
    assert.equal(await uploader.serve(BLOB, CHUNKS, 'a', never), 'missing')
    await end()
  })

  it('forgets no request when a neighbour introduces itself again', async () => {
    const { introduce, serve, end } = await start()
    introduce('a')
    const chunks = [0, 1, 2].map(chunk => serve(chunk, 'a'))
    introduce('a')
    for (const chunk of chunks) (await chunk).release(true)
    await end()
  })

  it('loses no place to one that asks twice and calls it off', async () => {
    const { uploader, introduce, serve, end } = await start(1)
    for (const peer of ['odd', 'honest']) introduce(peer)
    const first = await serve(0, 'odd')
    const calledOff = new AbortController()
    const again = uploader.serve(BLOB, 0, 'odd', calledOff.signal)
    calledOff.abort()
    first.release(true)
    assert.equal(await again, 'busy')
    ;(await serve(1, 'honest')).release(true)
    await end()
  })

  it('gives a place back whose request was called off while it waited', async () => {
    const { uploader, introduce, serve, end } = await start(1)
    for (const peer of ['a', 'b']) introduce(peer)
    const first = await serve(0, 'a')
    const calledOff = new AbortController()
    const waiting = uploader.serve(BLOB, 1, 'a', calledOff.signal)
    calledOff.abort()
    assert.equal(await waiting, 'busy')
    const next = serve(1, 'b')
    first.release(true)
    ;(await next).release(true)
    await end()
  })

  it('answers what waits when the blob is gone', async () => {
    const { uploader, introduce, serve, end } = await start(1)
    introduce('a')
    const first = await serve(0, 'a')
    const waiting = uploader.serve(BLOB, 1, 'a', never)
    uploader.removed(BLOB)
    assert.equal(await waiting, 'missing')
    first.release(true)
    await end()
  })
})
