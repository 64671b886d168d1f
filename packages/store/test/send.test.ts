import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { open } from 'node:fs/promises'
import { createServer, connect, type Socket } from 'node:net'
import { describe, it } from 'node:test'
import { blobPath } from '../src/blob-file.ts'
import { sampleBlob } from '../src/sample-blob.ts'
import { loadSendFile } from '../src/send-file.ts'
import { CHUNK, diskStore, keep, withDirectory } from './support.ts'

const sample = sampleBlob(24 * CHUNK + 1000, 3)

/** Both ends of a connection over loopback, and the near one's descriptor. */
async function withSocket(
  body: (near: Socket, far: Socket, descriptor: number) => Promise<void>,
): Promise<void> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  assert.ok(address !== null && typeof address === 'object')
  const far = connect(address.port, '127.0.0.1')
  const [near] = (await once(server, 'connection')) as [Socket]
  const { _handle: handle } = near as unknown as { readonly _handle: { readonly fd: number } }
  try {
    await body(near, far, handle.fd)
  } finally {
    near.destroy()
    far.destroy()
    server.close()
  }
}

describe('bytes of chunks that go straight into a socket', () => {
  it('are right, whatever is read in between, and go once reads have shown that they are in memory', () =>
    withDirectory(directory =>
      withSocket(async (near, far, descriptor) => {
        const store = await diskStore(directory)
        await keep(store, sample)
        const blob = (await store.find(sample.digest))!
        const arrived = createHash('sha256')
        let count = 0
        far.on('data', bytes => {
          arrived.update(bytes)
          count += bytes.length
        })
        const { size } = sample.layout
        let sent = 0
        for (let position = 0; position < size; ) {
          const chunk = sample.layout.at(position)
          const offset = position - sample.layout.offset(chunk)
          let moved = await blob.sendChunk(chunk, offset, size - position, () => descriptor)
          sent += moved
          if (moved === 0) {
            const piece = Buffer.alloc(16 * 1024)
            moved = await blob.readChunk(chunk, offset, piece)
            await new Promise<unknown>(resolve => near.write(piece.subarray(0, moved), resolve))
          }
          position += moved
        }
        near.end()
        await once(far, 'end')
        assert.equal(count, size)
        assert.equal(`sha256:${arrived.digest('hex')}`, sample.digest)
        assert.ok(sent > 0)
        blob.release()
        await store.close()
      }),
    ))

  it('do not go where nothing takes them, from a chunk that is gone, or where every read is checked', () =>
    withDirectory(directory =>
      withSocket(async (_near, _far, descriptor) => {
        for (const verify of ['once', 'always'] as const) {
          const store = await diskStore(directory, { verify })
          if (verify === 'once') await keep(store, sample)
          const blob = (await store.find(sample.digest))!
          assert.equal(await blob.sendChunk(1, CHUNK, 10, () => descriptor), 0, 'past its end')
          let sent = 0
          for (let i = 0; i < 500 && sent === 0; i++) {
            await blob.readChunk(1, 0, Buffer.alloc(10))
            sent = await blob.sendChunk(1, 0, 10, () => descriptor)
          }
          assert.equal(sent, verify === 'once' ? 10 : 0)
          assert.equal(await blob.sendChunk(1, 0, 10, () => undefined), 0)
          await assert.rejects(
            blob.sendChunk(1, -1, 10, () => descriptor),
            RangeError,
          )
          await blob.dropChunk(1)
          assert.equal(await blob.sendChunk(1, 0, 10, () => descriptor), 0)
          await blob.writeChunk(1, sample.chunk(1), sample.hash(1))
          await blob.markComplete('digest')
          blob.release()
          await store.close()
        }
      }),
    ))

  it('are as many as the socket takes, and none of a file that cannot be sent', () =>
    withDirectory(directory =>
      withSocket(async (_near, _far, descriptor) => {
        const store = await diskStore(directory)
        await keep(store, sample)
        await store.close()
        const sendFile = await loadSendFile()
        assert.ok(sendFile !== undefined)
        const file = await open(blobPath(directory, sample.digest), 'r')
        const first = sendFile(descriptor, file.fd, 5, 1000)
        assert.equal(first, 1000)
        let sent = 0
        for (let count = 1; count > 0; sent += count) count = sendFile(descriptor, file.fd, 0, CHUNK)
        assert.ok(sent > 0)
        assert.equal(sendFile(descriptor, file.fd, 0, CHUNK), 0, 'the socket is full')
        assert.equal(sendFile(-1, file.fd, 0, CHUNK), 0)
        await file.close()
      }),
    ))
})
