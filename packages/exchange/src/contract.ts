import type { Digest } from '@darter/oci'
import type { LinkMessage, PeerAddress, PeerMessage, SchedulerMessage } from '@darter/wire'

/** Ends a subscription. */
export type Unsubscribe = () => void

/** A chunk that arrived over a link, not yet believed. */
export interface FetchedChunk {
  /** Owned by the receiver: no one else writes to it. */
  readonly bytes: Uint8Array
  /** The sha256 of `bytes`, computed here as they arrived. */
  readonly hash: Uint8Array
}

/** An authenticated, encrypted connection to one neighbour, shared by all blobs. Either side may have dialled. */
export interface Link {
  readonly peerId: string
  /** Queues a message. False when the link is closed or its queue is over {@link LIMITS.sendQueueBytes} (the link is then closed). */
  send(message: LinkMessage): boolean
  /**
   * Fetches one chunk. Requests may be pipelined; aborting the signal cancels the request on the other side too.
   * @throws {ChunkRefusedError} the other side does not have it or is busy (`reason`);
   * @throws {LinkClosedError} the link broke; {@link LinkStalledError} no byte for the stall timeout while requests wait.
   */
  fetch(
    blob: Digest,
    chunk: number,
    length: number,
    options: { readonly signal: AbortSignal },
  ): Promise<FetchedChunk>
  onMessage(handler: (message: LinkMessage) => void): Unsubscribe
  /** Called once, with the reason when the link did not end in order. */
  onClose(handler: (reason: Error | undefined) => void): Unsubscribe
  close(reason?: Error): void
}

/** A chunk that this peer serves: read in pieces, as the other side takes them. */
export interface ServedChunk {
  /** Bytes. */
  readonly length: number
  /** Fills `target` from `offset` in the chunk as far as the chunk goes; returns the bytes read. */
  read(offset: number, target: Uint8Array): Promise<number>
  /** Always called, once, when the chunk is sent or given up. */
  release(): void
}

/** What a link asks its own peer for when a neighbour requests a chunk. */
export type ChunkSource = (
  blob: Digest,
  chunk: number,
  neighbour: string,
) => Promise<ServedChunk | 'missing' | 'busy'>

/** A peer's side of the swarm: its identity, its scheduler, its links. */
export interface Exchange {
  /** This peer's persistent libp2p id. */
  readonly peerId: string
  /** The scheduler, or undefined when none is configured. */
  readonly scheduler: SchedulerLink | undefined
  /** How others reach this peer: multiaddrs ending in `/p2p/<id>`. Known after start. */
  addresses(): string[]
  start(): Promise<void>
  /** Closes links and listeners. */
  stop(): Promise<void>
  /** The open link to a peer, or a new one. Concurrent calls for one peer share the attempt. */
  link(peer: PeerAddress, options: { readonly signal: AbortSignal }): Promise<Link>
  /** Called for every new link, dialled or accepted, before any of its messages. */
  onLink(handler: (link: Link) => void): Unsubscribe
}

/** The control stream to the scheduler. Connects, and reconnects with back-off, by itself. */
export interface SchedulerLink {
  readonly connected: boolean
  /** False when not connected: the message is dropped (state is announced again at the next {@link onUp}). */
  send(message: PeerMessage): boolean
  onMessage(handler: (message: SchedulerMessage) => void): Unsubscribe
  /** Admitted (again): everything that the scheduler should know must be said now. */
  onUp(handler: () => void): Unsubscribe
  onDown(handler: () => void): Unsubscribe
}

/** The scheduler's side: the door for peers. */
export interface ControlServer {
  readonly peerId: string
  addresses(): string[]
  start(): Promise<void>
  stop(): Promise<void>
  /** Called for every peer that proved the cluster key. */
  onPeer(handler: (peer: AdmittedPeer) => void): Unsubscribe
}

/** A peer that has been admitted to the cluster, for as long as its control stream lives. */
export interface AdmittedPeer {
  readonly address: PeerAddress
  send(message: SchedulerMessage): boolean
  onMessage(handler: (message: PeerMessage) => void): Unsubscribe
  onClose(handler: () => void): Unsubscribe
  close(reason: string): void
}
