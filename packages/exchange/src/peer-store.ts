import type { Libp2p, PeerStore } from '@libp2p/interface'

/**
 * Has a node remember nothing of the peers that it meets. libp2p notes the protocols of each and tells all its parts of
 * it; here nobody asks, and every stranger would leave a record behind.
 */
export function keepNoPeers(node: Libp2p): void {
  const nothing: Partial<Record<keyof PeerStore, () => Promise<unknown>>> = {
    merge: async () => undefined,
    patch: async () => undefined,
    save: async () => undefined,
    delete: async () => undefined,
    has: async () => false,
    all: async () => [],
    get: () => Promise.reject(UNKNOWN),
    getInfo: () => Promise.reject(UNKNOWN),
  }
  Object.assign(node.peerStore, nothing)
}

/** One for all, as its stack trace would tell nobody anything. */
const UNKNOWN = Object.assign(new Error('no peers are kept'), { name: 'NotFoundError' })
