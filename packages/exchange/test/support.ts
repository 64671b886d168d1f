import { createSecretKey, type KeyObject, randomBytes } from 'node:crypto'
import type { TestContext } from 'node:test'
import type { TLSSocket } from 'node:tls'
import { type Digest, parseDigest } from '@darter/oci'
import { createLogger, seededRandom, systemClock } from '@darter/runtime'
import {
  encodeRequest,
  FRAME,
  FrameReader,
  frame,
  HEADER_BYTES,
  LINK_PROTOCOL,
  writeFrameHeader,
} from '@darter/wire'
import { generateKeyPair } from '@libp2p/crypto/keys'
import { admitAsDialer } from '../src/admission.ts'
import { createChannel } from '../src/channel.ts'
import { openDataSockets } from '../src/data-port.ts'
import {
  type ControlServer,
  type ControlServerOptions,
  createControlServer,
  createExchange,
  type Exchange,
  type ExchangeOptions,
  type ServedChunk,
} from '../src/index.ts'
import { addressesOf, createNode, type Node, type NodeOptions } from '../src/node.ts'

export const MIB = 2 ** 20
export const BLOB: Digest = parseDigest(`sha256:${'ab'.repeat(32)}`)
export const log = createLogger({ level: 'silent', name: 'test' })
export const newClusterKey = (): KeyObject => createSecretKey(randomBytes(32))
export const newIdentity = () => generateKeyPair('Ed25519')
/** Longer than anything here takes; a test that waits for it fails. */
export const soon = () => AbortSignal.timeout(10_000)

/** A chunk that is served from memory. */
export function served(bytes: Uint8Array, more: Partial<ServedChunk> = {}): ServedChunk {
  return {
    length: bytes.length,
    read: async (offset, target) => {
      const part = bytes.subarray(offset, offset + target.length)
      target.set(part)
      return part.length
    },
    release: () => {},
    ...more,
  }
}

/** A started exchange that ends with the test. */
export async function startExchange(
  t: TestContext,
  options: Partial<ExchangeOptions> & { readonly clusterKey: KeyObject },
): Promise<Exchange> {
  const exchange = createExchange({
    identity: await newIdentity(),
    host: '127.0.0.1',
    port: 0,
    dataPort: 0,
    source: async () => 'missing',
    clock: systemClock,
    random: seededRandom(1),
    log,
    ...options,
  })
  t.after(() => exchange.stop())
  await exchange.start()
  return exchange
}

/** A started control server that ends with the test. */
export async function startServer(
  t: TestContext,
  options: Partial<ControlServerOptions> & { readonly clusterKey: KeyObject },
): Promise<ControlServer> {
  const server = createControlServer({
    identity: await newIdentity(),
    host: '127.0.0.1',
    port: 0,
    log,
    ...options,
  })
  t.after(() => server.stop())
  await server.start()
  return server
}

/** A started libp2p node with no rules of its own. */
export async function startNode(
  t: TestContext,
  options: Partial<NodeOptions> & { readonly clusterKey: KeyObject },
): Promise<Node> {
  const node = createNode({
    identity: await newIdentity(),
    host: '127.0.0.1',
    port: 0,
    announce: [],
    maxConnections: 10,
    protocols: {},
    log,
    hooks: {},
    ...options,
  })
  t.after(() => node.stop())
  await node.start()
  return node
}

/** How others dial an exchange. */
export const addressOf = (exchange: { peerId: string; addresses(): string[] }) => ({
  id: exchange.peerId,
  addresses: exchange.addresses(),
  zone: '',
})

/** A neighbour without manners: it passes admission, and then sends whatever bytes the test likes. */
export interface HandMadePeer {
  readonly peerId: string
  readonly messages: TLSSocket
  readonly bodies: TLSSocket
  /** The next whole frame of that name. */
  next(name: string): Promise<{ readonly id: number; readonly payload: Uint8Array }>
  /** Bytes of pieces that came. */
  readonly pieceBytes: number
  /** Both connections are gone. */
  readonly closed: Promise<unknown>
}

/** Connects a {@link HandMadePeer} to an exchange. */
export async function connectByHand(
  t: TestContext,
  to: Exchange,
  clusterKey: KeyObject,
): Promise<HandMadePeer> {
  const node = await startNode(t, { clusterKey })
  const offer = await askForOffer(node, to, clusterKey)
  const seen: { name: string; id: number; payload: Uint8Array }[] = []
  let wake: (() => void) | undefined
  let pieceBytes = 0
  const createReader = () =>
    new FrameReader({
      whole: (name, id, payload) => {
        seen.push({ name, id, payload: payload.slice() })
        wake?.()
      },
      piece: (_id, bytes) => {
        pieceBytes += bytes.length
      },
    })
  const { messages, bodies } = await openDataSockets({
    host: '127.0.0.1',
    port: offer.port,
    offer,
    signal: soon(),
    onSecure: sockets => {
      for (const { onData } of [sockets.messages, sockets.bodies]) {
        const reader = createReader()
        onData(bytes => reader.push(bytes))
      }
      return { messages: sockets.messages.socket, bodies: sockets.bodies.socket }
    },
  })
  const both = [messages, bodies]
  t.after(() => both.forEach(socket => socket.destroy()))
  messages.write(frame('open'))
  return {
    peerId: node.peerId,
    messages,
    bodies,
    closed: Promise.all(
      both.map(socket => new Promise<void>(resolve => socket.once('close', () => resolve()))),
    ),
    get pieceBytes() {
      return pieceBytes
    },
    next: async name => {
      const deadline = soon()
      for (;;) {
        const at = seen.findIndex(entry => entry.name === name)
        const [found] = at < 0 ? [] : seen.splice(at, 1)
        if (found !== undefined) return found
        deadline.throwIfAborted()
        await new Promise<void>((resolve, reject) => {
          wake = resolve
          deadline.addEventListener('abort', () => reject(new Error(`no ${name} frame came`)), { once: true })
        })
      }
    },
  }
}

/** Passes admission at an exchange's link stream and returns its offer. */
export async function askForOffer(node: Node, to: Exchange, clusterKey: KeyObject) {
  const connection = await node.dial(addressesOf(addressOf(to)), soon())
  const stream = await connection.newStream(LINK_PROTOCOL)
  const parties = { protocol: LINK_PROTOCOL, dialer: node.peerId, listener: to.peerId }
  const answer = await admitAsDialer(createChannel(stream), parties, { clusterKey, signal: soon() })
  await connection.close()
  if (answer.type !== 'offer') throw new Error(`${answer.type} instead of an offer`)
  return answer
}

/** A piece frame. */
export function piece(id: number, bytes: Uint8Array): Uint8Array {
  const framed = new Uint8Array(HEADER_BYTES + bytes.length)
  writeFrameHeader(framed, FRAME.piece, id, bytes.length)
  framed.set(bytes, HEADER_BYTES)
  return framed
}

/** A request frame. */
export const request = (id: number, chunk: number): Uint8Array =>
  frame('request', id, encodeRequest({ blob: BLOB, chunk }))
