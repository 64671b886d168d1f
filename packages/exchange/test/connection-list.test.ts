import assert from 'node:assert/strict'
import { test } from 'node:test'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { tcp } from '@libp2p/tcp'
import { createLibp2p, type Libp2p } from 'libp2p'
import { keepConnectionList } from '../src/connection-list.ts'

/** Resolves when the list has so many connections. */
function size(hub: Libp2p, list: readonly unknown[], wanted: number): Promise<void> {
  return new Promise(resolve => {
    const check = (): void => {
      if (list.length === wanted) resolve()
    }
    hub.addEventListener('connection:open', check)
    hub.addEventListener('connection:close', check)
    check()
  })
}

function newNode(): Promise<Libp2p> {
  return createLibp2p({
    addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
  })
}

test('a node asks for its connections and gets one list that is kept, not a copy of copies', async t => {
  const [hub, ...others] = await Promise.all([newNode(), newNode(), newNode(), newNode()])
  t.after(async () => {
    for (const node of [hub, ...others]) await node.stop()
  })
  keepConnectionList(hub)
  const list = hub.getConnections()
  assert.equal(hub.getConnections(), list)
  for (const node of others) await node.dial(hub.getMultiaddrs())
  await size(hub, list, 3)
  assert.deepEqual(new Set(list), new Set(others.flatMap(node => hub.getConnections(node.peerId))))
  await others[0].stop()
  await size(hub, list, 2)
  assert.equal(hub.getConnections(), list)
  assert.deepEqual(new Set(list), new Set(others.slice(1).flatMap(node => hub.getConnections(node.peerId))))
})
