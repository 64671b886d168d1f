import type { Server } from 'node:http'
import type { Server as TlsServer } from 'node:https'
import type { Lab } from '@darter/testing'

/** Starts a server on a free loopback port; its connections are cut when the lab closes. Returns the port. */
export function listen(lab: Lab, server: Server | TlsServer): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const address = server.address()
      if (address === null || typeof address === 'string') return reject(new Error('no port'))
      lab.defer(() => closeServer(server))
      resolve(address.port)
    })
  })
}

/** Cuts all connections and stops listening. */
export function closeServer(server: Server | TlsServer): Promise<void> {
  return new Promise(resolve => {
    server.close(() => resolve())
    server.closeAllConnections()
  })
}
