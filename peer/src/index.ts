export * from './config.ts'
export { createPeer, type Peer, type PeerAddresses, type PeerStatus } from './peer.ts'
