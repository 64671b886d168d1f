import type { Connection, Libp2p } from '@libp2p/interface'

/** What is replaced of libp2p's connection manager. */
interface Manager {
  getConnections(peer?: unknown): Connection[]
}

/**
 * Keeps a list of a node's connections, for libp2p's own use: 3.3.11 makes one at each connection that comes, and copies it
 * once for each connection that there is, so that ten thousand peers would never all get in. Does nothing when libp2p
 * is made otherwise.
 */
export function keepConnectionList(node: Libp2p): void {
  const list: Connection[] = []
  const places = new Map<Connection, number>()
  node.addEventListener('connection:open', ({ detail: connection }) => {
    places.set(connection, list.push(connection) - 1)
  })
  node.addEventListener('connection:close', ({ detail: connection }) => {
    const place = places.get(connection)
    const last = list.at(-1)
    if (place === undefined || last === undefined) return
    list[place] = last
    places.set(last, place)
    places.delete(connection)
    list.pop()
  })
  const manager = managerOf(node)
  if (manager === undefined) return
  const ofPeer = manager.getConnections.bind(manager)
  manager.getConnections = peer => (peer === undefined || peer === null ? list : ofPeer(peer))
}

function managerOf(node: Libp2p): Manager | undefined {
  const { components } = node as Libp2p & { components?: { connectionManager?: Partial<Manager> } }
  const manager = components?.connectionManager
  return typeof manager?.getConnections === 'function' ? (manager as Manager) : undefined
}
