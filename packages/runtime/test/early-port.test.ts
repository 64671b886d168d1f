import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { type AddressInfo, connect, createServer as createTcpServer } from 'node:net'
import { describe, it } from 'node:test'
import { openEarlyPort } from '../src/index.ts'

/** A port that nobody listens on. */
async function freePort(): Promise<number> {
  const server = createTcpServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

describe('a port that is open early', () => {
  it('lets those who come wait for the server, and refuses nobody', async () => {
    const port = await freePort()
    const early = await openEarlyPort({ host: '127.0.0.1', port }, 10)
    assert.ok(early)
    const left = connect(port, '127.0.0.1')
    await once(left, 'connect')
    left.destroy()
    const ask = async (path: string) => (await fetch(`http://127.0.0.1:${port}${path}`)).text()
    const waiting = Promise.all(['/a', '/b', '/c'].map(ask))
    const server = createServer((request, response) => response.end(request.url))
    await early.handTo(server)
    assert.deepEqual(await waiting, ['/a', '/b', '/c'])
    assert.equal(await ask('/later'), '/later')
    assert.equal((server.address() as AddressInfo).port, port)
    server.closeAllConnections()
    server.close()
    await once(server, 'close')
    await assert.rejects(ask('/gone'))
  })

  it('is nobody’s when somebody else has it', async () => {
    const taken = createTcpServer().listen(0, '127.0.0.1')
    await once(taken, 'listening')
    const { port } = taken.address() as AddressInfo
    assert.equal(await openEarlyPort({ host: '127.0.0.1', port }, 10), undefined)
    taken.close()
  })
})
