import { type KeyObject, randomBytes } from 'node:crypto'
import { abortable } from '@darter/runtime'
import { GATE_PROTOCOL, LIMITS, type Transcript } from '@darter/wire'
import type { ConnectionProtector, MessageStream } from '@libp2p/interface'
import { isProof, prove } from './admission.ts'
import { AdmissionError, type RefusalReason } from './errors.ts'
import { writeOncePerTurn } from './socket-writes.ts'
import { HANDSHAKE_MS } from './times.ts'
import type { Turnstile } from './turnstile.ts'

/** Bytes at the end of a listener's nonce that says how long to stay away, in ms; all before them are 0. */
const AWAY_BYTES = 4

/**
 * What both sides of a TCP connection do before libp2p reads a byte of it: prove to each other that they know the cluster
 * key, in three messages of fixed length (dialer: nonce; listener: nonce and proof; dialer: proof). Strangers get no
 * further, so that nothing of libp2p's parsers is theirs to try. It costs nothing per byte afterwards, and it knows no
 * peer ids: {@link admitAsListener} binds the key to those.
 *
 * A listener with a turnstile lets so many handshakes go on at once; when too many wait already it answers with a nonce that
 * no listener draws, which tells how long to stay away, and the connection ends.
 */
export function createGate(options: {
  readonly clusterKey: KeyObject
  readonly turnstile?: Turnstile | undefined
  /** A dialler has proved the key. `leave` is to be called when its handshake is over, or at the end of the connection. */
  readonly onEntered?: (connection: MessageStream, leave: () => void) => void
  /** Someone was turned away. `silent`: without having said a word, as a health check does. `from`: a multiaddr. */
  readonly onRefused: (reason: RefusalReason, silent: boolean, from: string) => void
}): ConnectionProtector {
  const { clusterKey, turnstile, onEntered, onRefused } = options
  return {
    protect: async (connection, { signal = AbortSignal.timeout(HANDSHAKE_MS) } = {}) => {
      writeOncePerTurn(connection)
      const reader = new FixedReader(connection)
      try {
        if (connection.direction === 'outbound') await enter(connection, reader, clusterKey, signal)
        else {
          const dialerNonce = await reader.read(LIMITS.nonceBytes, signal)
          const ticket = turnstile?.knock()
          if (typeof ticket === 'number') {
            await sendAway(connection, dialerNonce, ticket, clusterKey, signal)
          } else {
            try {
              await letIn(connection, dialerNonce, reader, clusterKey, signal)
              if (ticket !== undefined) await abortable(ticket.enter(), signal)
            } catch (error) {
              ticket?.leave()
              throw error
            }
            if (ticket !== undefined) onEntered?.(connection, ticket.leave)
          }
        }
      } catch (error) {
        reader.leave()
        const known = error instanceof AdmissionError ? error.reason : signal.aborted ? 'timeout' : 'left'
        if (connection.direction === 'inbound') {
          onRefused(
            known,
            reader.received === 0,
            'remoteAddr' in connection ? String(connection.remoteAddr) : '',
          )
        }
        throw error
      }
      reader.giveBack()
      return connection
    },
  }
}

async function enter(
  connection: MessageStream,
  reader: FixedReader,
  clusterKey: KeyObject,
  signal: AbortSignal,
): Promise<void> {
  const dialerNonce = randomBytes(LIMITS.nonceBytes)
  connection.send(dialerNonce)
  const listenerNonce = await reader.read(LIMITS.nonceBytes, signal)
  const proof = await reader.read(LIMITS.proofBytes, signal)
  const transcript = transcriptOf(dialerNonce, listenerNonce)
  if (!isProof(clusterKey, { ...transcript, role: 'listener' }, proof)) {
    throw new AdmissionError(
      'bad-proof',
      'the other side has another cluster key: both sides need the same cluster key file',
    )
  }
  const retryAfterMs = awayOf(listenerNonce)
  if (retryAfterMs !== undefined) {
    const seconds = (retryAfterMs / 1000).toFixed(1)
    throw new AdmissionError('busy', `the other side is busy letting others in: come back in ${seconds} s`, {
      retryAfterMs,
    })
  }
  connection.send(prove(clusterKey, { ...transcript, role: 'dialer' }))
}

async function letIn(
  connection: MessageStream,
  dialerNonce: Uint8Array,
  reader: FixedReader,
  clusterKey: KeyObject,
  signal: AbortSignal,
): Promise<void> {
  const listenerNonce = randomBytes(LIMITS.nonceBytes)
  const transcript = transcriptOf(dialerNonce, listenerNonce)
  connection.send(Buffer.concat([listenerNonce, prove(clusterKey, { ...transcript, role: 'listener' })]))
  const proof = await reader.read(LIMITS.proofBytes, signal)
  if (!isProof(clusterKey, { ...transcript, role: 'dialer' }, proof)) {
    throw new AdmissionError('bad-proof', 'the dialler does not know the cluster key')
  }
}

async function sendAway(
  connection: MessageStream,
  dialerNonce: Uint8Array,
  retryAfterMs: number,
  clusterKey: KeyObject,
  signal: AbortSignal,
): Promise<never> {
  const listenerNonce = awayNonce(retryAfterMs)
  const transcript = transcriptOf(dialerNonce, listenerNonce)
  connection.send(Buffer.concat([listenerNonce, prove(clusterKey, { ...transcript, role: 'listener' })]))
  await connection.close({ signal })
  throw new AdmissionError('busy', `too many come at once: sent away for ${retryAfterMs} ms`)
}

function awayNonce(ms: number): Uint8Array {
  const nonce = Buffer.alloc(LIMITS.nonceBytes)
  nonce.writeUInt32BE(ms, LIMITS.nonceBytes - AWAY_BYTES)
  return nonce
}

function awayOf(nonce: Uint8Array): number | undefined {
  const at = nonce.length - AWAY_BYTES
  return nonce.subarray(0, at).every(byte => byte === 0) ? Buffer.from(nonce).readUInt32BE(at) : undefined
}

function transcriptOf(dialerNonce: Uint8Array, listenerNonce: Uint8Array): Omit<Transcript, 'role'> {
  return { protocol: GATE_PROTOCOL, dialer: '', listener: '', dialerNonce, listenerNonce }
}

/** Takes a few bytes off the front of a connection, and gives back what it took too many. */
class FixedReader {
  readonly #connection: MessageStream
  #bytes: Uint8Array = new Uint8Array(0)
  #received = 0
  #closed: Error | undefined
  #wake: (() => void) | undefined

  constructor(connection: MessageStream) {
    this.#connection = connection
    connection.addEventListener('message', this.#onMessage)
    connection.addEventListener('close', this.#onClose)
  }

  get received(): number {
    return this.#received
  }

  async read(length: number, signal: AbortSignal): Promise<Uint8Array> {
    while (this.#bytes.length < length) {
      if (this.#closed !== undefined) throw this.#closed
      const more = new Promise<void>(resolve => {
        this.#wake = resolve
      })
      await abortable(more, signal)
    }
    const taken = this.#bytes.subarray(0, length)
    this.#bytes = this.#bytes.subarray(length)
    return taken
  }

  leave(): void {
    this.#connection.removeEventListener('message', this.#onMessage)
    this.#connection.removeEventListener('close', this.#onClose)
  }

  giveBack(): void {
    this.leave()
    if (this.#bytes.length > 0) this.#connection.unshift(this.#bytes)
  }

  readonly #onMessage = ({ data }: { data: Uint8Array | { subarray(): Uint8Array } }): void => {
    const bytes = data.subarray()
    this.#received += bytes.length
    this.#bytes = Buffer.concat([this.#bytes, bytes])
    this.#wake?.()
  }

  readonly #onClose = (): void => {
    this.#closed = new AdmissionError('left', 'the other side left during the handshake')
    this.#wake?.()
  }
}
