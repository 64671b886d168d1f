import type { KeyObject } from 'node:crypto'
import { createBackoff, delay, type Logger, withTimeout } from '@darter/runtime'
import {
  type Announcement,
  CONTROL_PROTOCOL,
  peerMessages,
  type SchedulerMessage,
  schedulerMessages,
} from '@darter/wire'
import type { Connection } from '@libp2p/interface'
import type { Multiaddr } from '@multiformats/multiaddr'
import { pipe } from 'it-pipe'
import { admitAsDialer } from './admission.ts'
import { type Channel, createChannel, encodeOrLog } from './channel.ts'
import type { SchedulerLink } from './contract.ts'
import { AdmissionError, asError, InvalidAddressError, reasonOf, retryAfterOf } from './errors.ts'
import { createEvent } from './events.ts'
import { createHeartbeat } from './heartbeat.ts'
import { type Node, peerOf } from './node.ts'
import { HANDSHAKE_MS } from './times.ts'

/** Bounds of the wait before another attempt, in ms. */
const BACKOFF = { baseMs: 200, maxMs: 5000 }
/**
 * The first wait after a session, as a part of the silence that its scheduler allowed: the more peers lose it at once, the longer,
 * so that not much more than a thousand come back in a second.
 */
const SPREAD = 1 / 25
/** Who is asked to stay away for a time does so for that, and up to this part of it longer. */
const LATENESS = 0.1

/** One scheduler: its pinned id and the addresses it may be at. */
interface Target {
  readonly id: string
  readonly addresses: readonly Multiaddr[]
}

/** A {@link SchedulerLink} that its exchange runs. */
export interface RunnableSchedulerLink extends SchedulerLink {
  /** Keeps the link up until the signal aborts; then closes it and resolves. */
  run(signal: AbortSignal): Promise<void>
}

/**
 * The control stream to the scheduler.
 * `addresses`: multiaddrs that end in the scheduler's pinned `/p2p/<id>`. Those of one id are tried together; several ids
 * are schedulers that can stand in for each other, tried in turn.
 * @throws {InvalidAddressError} for an address without an id.
 */
export function createSchedulerLink(options: {
  readonly node: Node
  readonly clusterKey: KeyObject
  readonly addresses: readonly string[]
  readonly announce: () => Announcement
  readonly random: () => number
  readonly log: Logger
}): RunnableSchedulerLink {
  const { node, clusterKey, announce, random, log } = options
  const targets = parseTargets(options.addresses)
  const messages = createEvent<[SchedulerMessage]>('scheduler message', log)
  const up = createEvent<[]>('scheduler up', log)
  const down = createEvent<[]>('scheduler down', log)
  const backoff = createBackoff({ ...BACKOFF, random })
  let channel: Channel | undefined
  /** How long a side may be silent, in ms, as the scheduler said last. */
  let silenceMs = 0

  const connect = async (
    target: Target,
    signal: AbortSignal,
  ): Promise<{ channel: Channel; connection: Connection; deadMs: number }> => {
    using deadline = withTimeout(
      signal,
      HANDSHAKE_MS,
      () => new AdmissionError('timeout', `no handshake with ${target.id} within ${HANDSHAKE_MS} ms`),
    )
    const connection = await node.dial(target.addresses, deadline.signal)
    try {
      const stream = await connection.newStream(CONTROL_PROTOCOL, { signal: deadline.signal })
      const channel = createChannel(stream)
      const parties = { protocol: CONTROL_PROTOCOL, dialer: node.peerId, listener: target.id }
      const answer = await admitAsDialer(channel, parties, {
        clusterKey,
        announce: announce(),
        signal: deadline.signal,
      })
      if (answer.type !== 'welcome') {
        throw new AdmissionError('malformed', `unexpected ${answer.type} from the scheduler`)
      }
      channel.admit()
      return { channel, connection, deadMs: answer.deadMs }
    } catch (error) {
      connection.abort(asError(error))
      throw error
    }
  }

  /** One control stream from admission to its end; throws the reason of the end. */
  const session = async (target: Target, signal: AbortSignal): Promise<void> => {
    const { channel: current, connection, deadMs } = await connect(target, signal)
    const cut = (reason: Error) => {
      current.abort(reason)
      connection.abort(reason)
    }
    const onAbort = () => cut(asError(signal.reason))
    signal.addEventListener('abort', onAbort, { once: true })
    silenceMs = deadMs
    const heartbeat = createHeartbeat({
      deadMs,
      progress: () => current.received,
      beat: () => current.beat(),
      dead: () => cut(new Error(`nothing came for ${silenceMs} ms`)),
    })
    try {
      signal.throwIfAborted()
      channel = current
      backoff.reset()
      log.info({ scheduler: target.id, address: connection.remoteAddr.toString() }, 'scheduler connected')
      up.emit()
      await pipe(current.messages, decoded, async source => {
        for await (const message of source) {
          if (message.type === 'silence') {
            silenceMs = message.deadMs
            heartbeat.allow(silenceMs)
          } else messages.emit(message)
        }
      })
      throw new Error('it closed the stream')
    } finally {
      heartbeat.stop()
      signal.removeEventListener('abort', onAbort)
      cut(new Error('the session is over'))
      if (channel === current) {
        channel = undefined
        down.emit()
      }
    }
  }

  return {
    get connected() {
      return channel !== undefined
    },
    get silenceMs() {
      return silenceMs
    },
    send: message => {
      if (channel === undefined) return false
      const bytes = encodeOrLog(peerMessages, message, log)
      return bytes !== undefined && channel.send(bytes)
    },
    onMessage: messages.on,
    onUp: up.on,
    onDown: down.on,
    run: async signal => {
      let told = ''
      /** When each may be tried again that sent this peer away. */
      const back = targets.map(() => 0)
      for (let turn = 0; !signal.aborted; turn++) {
        const target = targets[turn % targets.length]
        if (target === undefined) return
        silenceMs = 0
        try {
          await session(target, signal)
        } catch (error) {
          if (signal.aborted) return
          const awayMs = retryAfterOf(error)
          if (awayMs !== undefined) {
            back[turn % targets.length] = performance.now() + awayMs * (1 + random() * LATENESS)
          }
          const detail = reasonOf(error)
          // The same failure again and again is said once.
          const level = detail === told ? 'debug' : 'warn'
          told = detail
          log[level]({ scheduler: target.id, detail }, 'no scheduler: trying again')
        }
        const away = (back[(turn + 1) % targets.length] ?? 0) - performance.now()
        await delay(Math.max(away, random() * silenceMs * SPREAD, backoff.next()), signal).catch(() => {})
      }
    },
  }
}

async function* decoded(source: AsyncIterable<Uint8Array>): AsyncGenerator<SchedulerMessage> {
  for await (const bytes of source) if (bytes.length > 0) yield schedulerMessages.decode(bytes)
}

function parseTargets(addresses: readonly string[]): Target[] {
  const byId = new Map<string, Multiaddr[]>()
  for (const text of addresses) {
    const parsed = peerOf(text)
    if (parsed === undefined) {
      throw new InvalidAddressError(
        text,
        "a scheduler's address such as /ip4/10.0.0.1/tcp/4001/p2p/<its id>, which pins its identity",
      )
    }
    byId.set(parsed.id, [...(byId.get(parsed.id) ?? []), parsed.address])
  }
  return [...byId].map(([id, addresses]) => ({ id, addresses }))
}
