export * from './config.ts'
export { ERROR_TABLE } from './doors/error-table.ts'
export { createPeer, type Peer, type PeerAddresses, type PeerStatus } from './peer.ts'
export { loadOrCreateAuthority } from './proxy/authority.ts'
