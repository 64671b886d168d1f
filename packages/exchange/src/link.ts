import type { ChunkBuffers, Logger, Throttle } from '@darter/runtime'
import {
  decodeNotice,
  decodeRefusal,
  decodeRequest,
  encodeNotice,
  encodeRefusal,
  encodeRequest,
  FrameReader,
  frame,
  LIMITS,
  type Introduction,
  introductions,
  isNotice,
  type LinkMessage,
  type Notice,
  type WholeFrame,
  WireError,
} from '@darter/wire'
import { encodeOrLog } from './channel.ts'
import type { ChunkSource, Link } from './contract.ts'
import type { LinkSockets } from './data-port.ts'
import { createDownloads } from './downloads.ts'
import { asError, LinkClosedError, LinkProtocolError, LinkStalledError } from './errors.ts'
import { createEvent } from './events.ts'
import { createHeartbeat } from './heartbeat.ts'
import type { ExchangeHooks } from './hooks.ts'
import { createUploads, type PieceBuffers } from './uploads.ts'

/** How long a link waits for things, in ms. */
export interface LinkTimes {
  /** No byte of a chunk while one is asked for: the other side has stalled. */
  readonly stallMs: number
  /** The other side takes no piece of what it asked for. */
  readonly takeMs: number
  /** The other side says of no chunk that it has come: what the operating system holds may take long on a slow link. */
  readonly toldMs: number
  /** Nothing at all came, pings being answered otherwise. */
  readonly deadMs: number
  /** No blob is of interest to either side. */
  readonly idleMs: number
}

/** What a link is made of. */
export interface LinkOptions {
  /** Secured, and the link's own from now on. */
  readonly sockets: LinkSockets
  readonly peerId: string
  /** Whether this side dialled. The other side's link begins with the first frame of this one. */
  readonly dialled: boolean
  readonly source: ChunkSource
  readonly pieceBuffers: PieceBuffers
  readonly chunkBuffers: ChunkBuffers
  /** The limit on chunk bytes that are sent, over all links. */
  readonly uploadThrottle?: Throttle | undefined
  /** The limit on bytes of bodies: while it holds them back, their socket is not read. */
  readonly downloadThrottle?: Throttle | undefined
  readonly times: LinkTimes
  readonly log: Logger
  readonly hooks: ExchangeHooks
  /** Called once, when the dialler uses the link it made; not for a dialled link. */
  readonly onUsed?: () => void
}

/** A {@link Link} and its end. */
export interface DrivenLink extends Link {
  /** Resolves when the sockets are gone. */
  readonly ended: Promise<unknown>
}

/** How long queued frames may take to leave when a link closes in order, and one socket's end to follow the other's, in ms. */
const FLUSH_MS = 300
/** What is paid for ahead of what comes, where the throttle gives so much: to pause for every TLS record would be costly. */
const PAID_AHEAD_BYTES = 256 * 1024
/** Blobs that the other side may be interested in as far as idleness goes. */
const MAX_INTERESTS = 4096

/** What messages look like on a link, for as long as their senders keep them: the same one goes to many neighbours. */
const frames = new WeakMap<LinkMessage, Uint8Array>()

function framed(message: LinkMessage, log: Logger): Uint8Array | undefined {
  const known = frames.get(message)
  if (known !== undefined) return known
  const bytes = isNotice(message.type)
    ? frame(message.type, 0, encodeNotice(message as Notice))
    : introduced(message as Introduction, log)
  if (bytes === undefined) return undefined
  frames.set(message, bytes)
  return bytes
}

function introduced(message: Introduction, log: Logger): Uint8Array | undefined {
  const payload = encodeOrLog(introductions, message, log)
  return payload === undefined ? undefined : frame('message', 0, payload)
}

/** Whole frames that may come over the connection for bodies: what ends a chunk. */
const IN_BODIES: ReadonlySet<WholeFrame> = new Set(['end', 'refuse'])

/** A link over secured sockets. */
export function createLink(options: LinkOptions): DrivenLink {
  const { sockets, peerId, source, times, hooks, onUsed, downloadThrottle } = options
  const talk = sockets.messages.socket
  const bodies = sockets.bodies.socket
  const log = options.log.child({ peer: peerId })
  const messages = createEvent<[LinkMessage]>('link message', log)
  const closing = createEvent<[Error | undefined]>('link closed', log)
  const wanted = { here: new Set<string>(), there: new Set<string>() }
  let used = options.dialled
  let closed = false
  /** Bytes that came, and bytes and answers that chunks brought: they only ever grow. */
  let received = 0
  let progress = 0
  let unreported = 0
  let chunkBytes = 0
  /** Frames other than pings, both ways. */
  let traffic = 0
  /** Bytes that came and are not paid for at the throttle, for which the socket is paused; below 0: paid ahead. */
  let unpaid = 0
  const gone = new AbortController()

  /** Messages that leave together at the end of the event loop's turn: each write costs a TLS record and a system call. */
  let batch: Uint8Array[] = []
  let batchBytes = 0
  const flush = (): void => {
    if (batch.length === 0) return
    const bytes = batch.length === 1 ? batch[0]! : Buffer.concat(batch, batchBytes)
    batch = []
    batchBytes = 0
    if (!talk.writableEnded) talk.write(bytes)
  }
  const write = (bytes: Uint8Array): boolean => {
    if (closed) return false
    if (talk.writableLength + batchBytes + bytes.length > LIMITS.sendQueueBytes) {
      close(new LinkClosedError(peerId, `more than ${LIMITS.sendQueueBytes} bytes wait to be sent`))
      return false
    }
    if (batch.length === 0) setImmediate(flush)
    batch.push(bytes)
    batchBytes += bytes.length
    return true
  }
  const writeBehindPieces = (bytes: Uint8Array): void => {
    if (!closed) bodies.write(bytes)
  }
  const downloads = createDownloads({
    peerId,
    request: (id, blob, chunk) => {
      traffic++
      write(frame('request', id, encodeRequest({ blob, chunk })))
    },
    cancel: id => write(frame('cancel', id)),
    buffers: options.chunkBuffers,
  })
  const uploads = createUploads({
    peerId,
    socket: bodies,
    source: ({ blob, chunk }, signal) => source(blob, chunk, peerId, signal),
    buffers: options.pieceBuffers,
    throttle: options.uploadThrottle,
    end: id => writeBehindPieces(frame('end', id)),
    wait: id => write(frame('wait', id)),
    refuse: (id, reason, begun) => {
      const bytes = frame('refuse', id, encodeRefusal(reason))
      if (begun) writeBehindPieces(bytes)
      else write(bytes)
    },
    onSent: bytes => hooks.onBytes?.('sent', bytes, peerId),
    onFailure: ({ blob, chunk }, error) => log.warn({ blob, chunk, err: error }, 'serving a chunk failed'),
  })
  const report = () => {
    if (unreported > 0) hooks.onBytes?.('received', unreported, peerId)
    unreported = 0
  }

  const noteInterest = (side: Set<string>, message: LinkMessage) => {
    if (message.type === 'leave') side.delete(message.blob)
    else if (message.type === 'interest' && side.size < MAX_INTERESTS) side.add(message.blob)
  }
  const onWhole = (name: WholeFrame, id: number, payload: Uint8Array): void => {
    if (closed) return
    if (used === (name === 'open')) throw new LinkProtocolError(peerId, `unexpected ${name} frame`)
    switch (name) {
      case 'open':
        used = true
        return onUsed?.()
      case 'ping':
        write(frame('pong'))
        return
      case 'pong':
        return
      case 'cancel':
        return uploads.cancel(id)
      case 'end':
      case 'refuse':
        progress++
        if (name === 'end') {
          downloads.end(id)
          write(frame('took', id))
        } else downloads.refused(id, decodeRefusal(payload))
        return report()
      case 'request':
        traffic++
        return uploads.request(id, decodeRequest(payload))
      case 'message': {
        traffic++
        const message = introductions.decode(payload)
        noteInterest(wanted.there, message)
        return messages.emit(message)
      }
      case 'took':
        return uploads.took(id)
      case 'wait':
        if (downloads.waits(id)) progress++
        return
      default:
        traffic++
        return messages.emit(decodeNotice(name, payload))
    }
  }
  const refuseFrame = (name: WholeFrame | 'piece', where: string): never => {
    throw new LinkProtocolError(peerId, `a ${name} frame among ${where}`)
  }
  const messageReader = new FrameReader({
    whole: (name, id, payload) => {
      if (name === 'end') refuseFrame(name, 'messages')
      onWhole(name, id, payload)
    },
    piece: () => refuseFrame('piece', 'messages'),
  })
  const bodyReader = new FrameReader({
    whole: (name, id, payload) => {
      if (!IN_BODIES.has(name)) refuseFrame(name, 'bodies')
      onWhole(name, id, payload)
    },
    piece: (id, bytes) => {
      if (closed) return
      progress += bytes.length
      unreported += bytes.length
      chunkBytes += bytes.length
      downloads.piece(id, bytes)
    },
  })

  /** Has what came paid for, and reads no more until it is. */
  const pay = async (throttle: Throttle, bytes: number): Promise<void> => {
    const waits = unpaid > 0
    unpaid += bytes
    // What the socket still hands over after it was paused is paid for in the same wait.
    if (waits || unpaid <= 0) return
    bodies.pause()
    try {
      while (unpaid > 0) {
        const paid = await throttle.take(unpaid + PAID_AHEAD_BYTES, gone.signal)
        unpaid -= paid
      }
      bodies.resume()
    } catch {
      // The link was closed meanwhile.
    }
  }

  const isBusy = () => wanted.here.size + wanted.there.size + downloads.owed + uploads.owed > 0
  // A number that is not even equal to itself counts as progress.
  const heartbeats = [
    createHeartbeat({
      deadMs: times.stallMs,
      progress: () => (downloads.owed === 0 || unpaid > 0 ? Number.NaN : progress),
      beat: () => {},
      dead: () => close(new LinkStalledError(peerId, 'sent nothing of what it was asked for', times.stallMs)),
    }),
    createHeartbeat({
      deadMs: times.takeMs,
      progress: () => (uploads.inFlight === 0 ? Number.NaN : uploads.taken),
      beat: () => {},
      dead: () => close(new LinkStalledError(peerId, 'took nothing of what it asked for', times.takeMs)),
    }),
    createHeartbeat({
      deadMs: times.toldMs,
      progress: () => (uploads.untold === 0 ? Number.NaN : uploads.told),
      beat: () => {},
      dead: () => close(new LinkStalledError(peerId, 'said of nothing that it has come', times.toldMs)),
    }),
    createHeartbeat({
      deadMs: times.deadMs,
      progress: () => received,
      beat: () => write(frame('ping')),
      dead: () => close(new LinkClosedError(peerId, `no sign of life for ${times.deadMs} ms`)),
    }),
    createHeartbeat({
      deadMs: times.idleMs,
      progress: () => (isBusy() ? Number.NaN : traffic),
      beat: () => {},
      dead: () => close(),
    }),
  ]

  const close = (reason?: Error): void => {
    if (closed) return
    closed = true
    for (const heartbeat of heartbeats) heartbeat.stop()
    downloads.fail(reason ?? new LinkClosedError(peerId, 'it was closed here'))
    uploads.close()
    gone.abort()
    report()
    if (reason === undefined) flush()
    for (const socket of [talk, bodies]) {
      if (reason === undefined) {
        const flushing = setTimeout(() => socket.destroy(), FLUSH_MS)
        socket.once('close', () => clearTimeout(flushing))
        socket.end()
      } else {
        socket.destroy()
      }
    }
    log.debug({ reason: reason?.message }, 'link closed')
    closing.emit(reason)
  }
  const onEnd = () =>
    close(downloads.wanted === 0 ? undefined : new LinkClosedError(peerId, 'the other side closed it'))
  talk.once('end', onEnd)
  /** The other side closes both connections; what it said last may come after the end of the bodies. */
  const onBodiesEnd = () => {
    const waiting = setTimeout(onEnd, FLUSH_MS)
    closing.on(() => clearTimeout(waiting))
  }
  const ended = Promise.all(
    [talk, bodies].map(socket => {
      socket.on('error', error => close(new LinkClosedError(peerId, error.message, { cause: error })))
      return new Promise<void>(resolve => {
        socket.once('close', () => {
          if (socket === talk) onEnd()
          else if (!closed) onBodiesEnd()
          resolve()
        })
      })
    }),
  )
  const receive = (reader: FrameReader, bytes: Uint8Array): void => {
    if (closed) return
    received += bytes.length
    try {
      reader.push(bytes)
    } catch (error) {
      const reason = asError(error)
      close(
        reason instanceof WireError
          ? new LinkProtocolError(peerId, reason.message, { cause: reason })
          : reason,
      )
    }
  }
  sockets.messages.onData(bytes => receive(messageReader, bytes))
  sockets.bodies.onData(bytes => {
    if (downloadThrottle !== undefined && !closed) void pay(downloadThrottle, bytes.length)
    receive(bodyReader, bytes)
  })
  if (options.dialled) write(frame('open'))

  return {
    peerId,
    get receivedBytes() {
      return chunkBytes
    },
    ended,
    send: message => {
      const bytes = closed ? undefined : framed(message, log)
      if (bytes === undefined) return false
      traffic++
      noteInterest(wanted.here, message)
      return write(bytes)
    },
    fetch: async (blob, chunk, length, fetchOptions) => {
      if (closed) throw new LinkClosedError(peerId, 'before the request')
      return downloads.fetch(blob, chunk, length, fetchOptions)
    },
    onMessage: messages.on,
    onClose: closing.on,
    close,
  }
}
