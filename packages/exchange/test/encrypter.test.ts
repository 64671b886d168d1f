import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import { test } from 'node:test'
import { noise, pureJsCrypto } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import type { MessageStream, StreamHandler } from '@libp2p/interface'
import { tcp } from '@libp2p/tcp'
import { createLibp2p } from 'libp2p'
import { leanNoise } from '../src/encrypter.ts'
import { nativeNoiseCrypto } from '../src/noise-crypto.ts'
import { keepNoPeers } from '../src/peer-store.ts'
import { quietLogger } from '../src/quiet-logger.ts'
import { writeOncePerTurn } from '../src/socket-writes.ts'

test('the primitives of Noise by OpenSSL are those of Noise in JavaScript', () => {
  const native = nativeNoiseCrypto()
  const [a, b] = [randomBytes(32), randomBytes(32)]
  const buffers = (parts: readonly Uint8Array[]) => parts.map(part => Buffer.from(part))
  assert.deepEqual(buffers(native.getHKDF(a, b)), buffers(pureJsCrypto.getHKDF(a, b)))
  const empty = new Uint8Array(0)
  assert.deepEqual(buffers(native.getHKDF(a, empty)), buffers(pureJsCrypto.getHKDF(a, empty)))
  assert.deepEqual(Buffer.from(native.hashSHA256(a)), Buffer.from(pureJsCrypto.hashSHA256(a)))
  const ours = native.generateX25519KeyPair()
  const theirs = pureJsCrypto.generateX25519KeyPair()
  const secret = Buffer.from(pureJsCrypto.generateX25519SharedKey(theirs.privateKey, ours.publicKey))
  for (let i = 0; i < 2; i++) {
    assert.deepEqual(Buffer.from(native.generateX25519SharedKey(ours.privateKey, theirs.publicKey)), secret)
  }
  for (const length of [0, 1, 100, 5000]) {
    const [text, nonce, ad, key] = [
      randomBytes(length),
      randomBytes(12),
      randomBytes(length),
      randomBytes(32),
    ]
    const sealed = native.chaCha20Poly1305Encrypt(text, nonce, ad, key).subarray()
    assert.deepEqual(
      sealed,
      Buffer.from(pureJsCrypto.chaCha20Poly1305Encrypt(text, nonce, ad, key).subarray()),
    )
    assert.deepEqual(
      Buffer.from(native.chaCha20Poly1305Decrypt(sealed, nonce, ad, key).subarray()),
      Buffer.from(text),
    )
    sealed[length] = 1 + (sealed[length] ?? 0)
    assert.throws(() => native.chaCha20Poly1305Decrypt(sealed, nonce, ad, key))
  }
})

test('a node with all that is spared understands one of libp2p as it comes, whichever dials', async t => {
  const echo: StreamHandler = stream => {
    stream.addEventListener('message', ({ data }) => void stream.send(data))
  }
  const nodes = await Promise.all(
    [true, false].map(lean =>
      createLibp2p({
        ...(lean && { logger: quietLogger }),
        addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
        transports: [tcp()],
        connectionEncrypters: [lean ? leanNoise() : noise()],
        connectionProtector: () => ({
          protect: async connection => {
            if (lean) writeOncePerTurn(connection)
            return connection
          },
        }),
        streamMuxers: [yamux()],
      }),
    ),
  )
  const [lean, stock] = nodes as [(typeof nodes)[0], (typeof nodes)[0]]
  keepNoPeers(lean)
  t.after(async () => {
    for (const node of nodes) await node.stop()
  })
  for (const [from, to] of [
    [lean, stock],
    [stock, lean],
  ] as const) {
    await to.handle('/echo/1', echo)
    // Two handshakes with one identity: the second takes the signature of the first.
    for (let i = 0; i < 2; i++) {
      const connection = await from.dial(to.getMultiaddrs(), { force: true })
      assert.ok(connection.remotePeer.equals(to.peerId))
      const stream = await connection.newStream('/echo/1')
      const sent = [1, 2, 70_000, 3].map(length => randomBytes(length))
      const whole = Buffer.concat(sent)
      const back: Uint8Array[] = []
      let length = 0
      const all = new Promise<void>(resolve => {
        stream.addEventListener('message', ({ data }) => {
          back.push(data.subarray())
          length += data.byteLength
          if (length >= whole.length) resolve()
        })
      })
      for (const part of sent) stream.send(part)
      await all
      assert.ok(Buffer.concat(back).equals(whole))
    }
  }
  assert.deepEqual(await lean.peerStore.all(), [])
})

test('what is sent within one turn leaves together', async t => {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const accepted = once(server, 'connection') as Promise<[Socket]>
  const address = server.address()
  const socket = connect(typeof address === 'object' ? (address?.port ?? 0) : 0, '127.0.0.1')
  const [other] = await accepted
  t.after(() => {
    socket.destroy()
    other.destroy()
    server.close()
  })
  const connection = {
    socket,
    sendData: (parts: readonly Uint8Array[]) => {
      for (const part of parts) socket.write(part)
      return { sentBytes: 2, canSendMore: true }
    },
  }
  writeOncePerTurn(connection as unknown as MessageStream)
  for (const round of [1, 2]) {
    const received = once(other, 'data')
    const part = Buffer.of(round)
    assert.deepEqual(connection.sendData([part, part]), { sentBytes: 2, canSendMore: true })
    connection.sendData([part])
    assert.equal(socket.writableLength, 3)
    assert.deepEqual(await received, [Buffer.of(round, round, round)])
    assert.equal(socket.writableLength, 0)
  }
})
