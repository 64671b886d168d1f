import type { Digest } from '@darter/oci'
import type { LinkMessage, PeerAddress, PeerMessage, SchedulerMessage } from '@darter/wire'

/** Ends a subscription. */
export type Unsubscribe = () => void

/** A chunk that arrived over a link, not yet believed. */
export interface FetchedChunk {
  /** Owned by the receiver: no one else writes to it before {@link release}. */
  readonly bytes: Uint8Array
  /** The sha256 of `bytes`, computed here as they arrived. */
  readonly hash: Uint8Array
  /**
   * Gives the memory of `bytes` back to be used for another chunk: no one may look at it afterwards. Never needed, but a
   * receiver that calls it spares a third of the cost of a chunk. A second call does nothing.
   */
  release(): void
}

/** How a chunk is fetched. */
export interface FetchOptions {
  readonly signal: AbortSignal
  /** Called at the first bytes, and now and then while more arrive, with the bytes that have come so far. Must not throw. */
  readonly onProgress?: (received: number) => void
}

/** An authenticated, encrypted connection to one neighbour, shared by all blobs. Either side may have dialled. */
export interface Link {
  readonly peerId: string
  /** Bytes of chunks that came so far, of whole ones or not. */
  readonly receivedBytes: number
  /**
   * Queues a message, which must not change afterwards; it overtakes chunks that are being sent. False when the link is closed or its queue is over
   * {@link LIMITS.sendQueueBytes} (the link is then closed), and for a message that the other side would refuse: one too
   * large, or one that contradicts itself (that is logged).
   */
  send(message: LinkMessage): boolean
  /**
   * Fetches one chunk. Requests may be pipelined; aborting the signal cancels the request on the other side too.
   * @throws {ChunkRefusedError} the other side does not have it, is busy, or failed to read it (`reason`).
   * @throws {LinkClosedError} the link broke.
   * @throws {LinkStalledError} no byte of any chunk for the stall timeout while requests wait; the link is closed.
   * @throws {LinkProtocolError} the other side broke the rules, such as a chunk of another length; the link is closed.
   */
  fetch(blob: Digest, chunk: number, length: number, options: FetchOptions): Promise<FetchedChunk>
  onMessage(handler: (message: LinkMessage) => void): Unsubscribe
  /** Called once, with the reason when the link did not end in order. Not called for a link that is closed already. */
  onClose(handler: (reason: Error | undefined) => void): Unsubscribe
  close(reason?: Error): void
}

/** A chunk that this peer serves: read in pieces, as the other side takes them. */
export interface ServedChunk {
  /** Bytes. */
  readonly length: number
  /** Fills `target` from `offset` in the chunk as far as the chunk goes; returns the bytes read. */
  read(offset: number, target: Uint8Array): Promise<number>
  /** Always called, once, when the other side has the chunk, or it was given up before its last byte (`whole` is false then). */
  release(whole: boolean): void
}

/**
 * What a link asks its own peer for when a neighbour requests a chunk. The answer may take its time: it is sent when it
 * comes. The signal aborts when the neighbour does not want the chunk any more, or is gone.
 */
export type ChunkSource = (
  blob: Digest,
  chunk: number,
  neighbour: string,
  signal: AbortSignal,
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
  /** Closes links and listeners, within about a second. An exchange that was stopped is not started again. */
  stop(): Promise<void>
  /**
   * The open link to a peer, or a new one. Concurrent calls for one peer share the attempt.
   * @throws {DialError} when there is none to be had, for a moment without trying when the last attempt has just failed.
   */
  link(peer: PeerAddress, options: { readonly signal: AbortSignal }): Promise<Link>
  /**
   * Called for every new link, dialled or accepted, before any of its messages and before {@link link} resolves. There is
   * at most one link to a peer: a peer that connects again replaces its old one, which is closed first.
   */
  onLink(handler: (link: Link) => void): Unsubscribe
}

/** The control stream to the scheduler. Connects, and reconnects with back-off, by itself. */
export interface SchedulerLink {
  readonly connected: boolean
  /** How long this peer may be silent before it counts as gone, in ms: the more peers the scheduler has, the longer. */
  readonly silenceMs: number
  /**
   * False when not connected: the message is dropped (state is announced again at the next {@link onUp}). False also for a
   * message that the other side would refuse, such as one over {@link LIMITS.messageBytes} (that is logged).
   */
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
  /** Called for every peer that proved the cluster key. One that connects again replaces its old self, closed first. */
  onPeer(handler: (peer: AdmittedPeer) => void): Unsubscribe
}

/** A peer that has been admitted to the cluster, for as long as its control stream lives. */
export interface AdmittedPeer {
  readonly address: PeerAddress
  /** It says that it holds much for long, and fetches cold blobs for the others. */
  readonly seed: boolean
  /** How long it may be silent now before it counts as gone, in ms. */
  readonly deadMs: number
  /** Queues a message. False when it was not: see {@link SchedulerLink.send}. A peer whose queue is full is cut. */
  send(message: SchedulerMessage): boolean
  onMessage(handler: (message: PeerMessage) => void): Unsubscribe
  onClose(handler: () => void): Unsubscribe
  close(reason: string): void
}
