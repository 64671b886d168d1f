import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { connect } from 'node:net'
import { describe, it } from 'node:test'
import { CONTROL_PROTOCOL } from '@darter/wire'
import { openDataSockets } from '../src/data-port.ts'
import { addressesOf } from '../src/node.ts'
import {
  addressOf,
  askForOffer,
  newClusterKey,
  soon,
  startExchange,
  startNode,
  startServer,
} from './support.ts'

/** Each of these waits for a handshake's time to be over. */
describe('a stranger', { concurrency: true }, () => {
  it('who sends garbage does no harm', async t => {
    const clusterKey = newClusterKey()
    const refused: string[] = []
    const server = await startServer(t, {
      clusterKey,
      hooks: { onRefused: (door, reason) => refused.push(`${door} ${reason}`) },
    })
    const port = Number(/\/tcp\/(\d+)/.exec(server.addresses()[0] ?? '')?.[1])
    const multistream = Buffer.from('\x13/multistream/1.0.0\n\x07/noise\n')
    const garbage = [
      Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n'),
      randomBytes(100_000),
      Buffer.from([0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]),
      Buffer.concat([multistream, randomBytes(5000)]),
      Buffer.concat([multistream, Buffer.alloc(5000)]),
      Buffer.alloc(1_000_000, 0xff),
      Buffer.concat([multistream, Buffer.alloc(1_000_000, 0xff)]),
      Buffer.concat([Buffer.alloc(32), multistream, Buffer.alloc(1_000_000, 0xff)]),
    ]
    const send = async (bytes: Uint8Array) => {
      const socket = connect(port, '127.0.0.1')
      socket.on('error', () => {})
      socket.resume()
      socket.end(bytes)
      await new Promise<void>(resolve => socket.once('close', () => resolve()))
    }
    const before = process.cpuUsage()
    await Promise.all(garbage.map(send))
    const { user } = process.cpuUsage(before)
    assert.ok(user < 1_000_000, `it took ${user / 1000} ms of computing`)
    assert.equal(refused.length, garbage.length)
    assert.ok(
      refused.every(what => what === 'gate bad-proof' || what === 'gate left'),
      refused.join(),
    )
    const joined = new Promise<string>(resolve => server.onPeer(peer => resolve(peer.address.id)))
    const { peerId } = await startExchange(t, { clusterKey, schedulers: server.addresses() })
    assert.equal(await joined, peerId)
  })

  it('who says nothing is cut', async t => {
    const clusterKey = newClusterKey()
    const server = await startServer(t, { clusterKey })
    const node = await startNode(t, { clusterKey })
    const idle = await node.dial(addressesOf(addressOf(server)), soon())
    const silent = await node.dial(addressesOf(addressOf(server)), soon())
    const closed = Promise.all([once(idle, 'close'), once(silent, 'close')])
    const stream = await silent.newStream(CONTROL_PROTOCOL)
    stream.send(Uint8Array.of(0))
    await closed
  })

  it('who opens a link and never uses it holds it only for a while', async t => {
    const clusterKey = newClusterKey()
    const exchange = await startExchange(t, { clusterKey })
    exchange.onLink(() => assert.fail('not used'))
    const node = await startNode(t, { clusterKey })
    const offer = await askForOffer(node, exchange, clusterKey)
    const sockets = await openDataSockets({
      host: '127.0.0.1',
      port: offer.port,
      offer,
      signal: soon(),
      onSecure: ({ messages, bodies }) => [messages.socket, bodies.socket],
    })
    await Promise.all(sockets.map(socket => once(socket.resume(), 'close')))
  })
})
