import { createHmac, type KeyObject, randomBytes, timingSafeEqual } from 'node:crypto'
import { abortable } from '@darter/runtime'
import {
  type Announcement,
  admissionTranscript,
  type HandshakeMessage,
  handshakeMessages,
  LIMITS,
  type Transcript,
  WireError,
} from '@darter/wire'
import type { Channel } from './channel.ts'
import { AdmissionError } from './errors.ts'

/** Who talks to whom on a new stream. */
export interface Parties {
  readonly protocol: string
  /** Peer ids as the Noise handshake established them. */
  readonly dialer: string
  readonly listener: string
}

type MessageOf<T extends HandshakeMessage['type']> = Extract<HandshakeMessage, { type: T }>

/**
 * Proves the cluster key to the listener after it has proved the key itself, and returns the listener's answer.
 * @throws {AdmissionError} when the listener does not know the key, leaves, or says something else.
 */
export async function admitAsDialer(
  channel: Channel,
  parties: Parties,
  options: { readonly clusterKey: KeyObject; readonly announce?: Announcement; readonly signal: AbortSignal },
): Promise<MessageOf<'welcome' | 'offer' | 'yield' | 'full'>> {
  const { clusterKey, announce, signal } = options
  const dialerNonce = randomBytes(LIMITS.nonceBytes)
  say(channel, { type: 'hello', nonce: dialerNonce })
  const challenge = await hear(channel, ['challenge'], signal)
  const transcript = { ...parties, dialerNonce, listenerNonce: challenge.nonce }
  if (!isProof(clusterKey, { ...transcript, role: 'listener' }, challenge.proof)) {
    throw new AdmissionError(
      'bad-proof',
      `peer ${parties.listener} has another cluster key: both sides need the same cluster key file`,
    )
  }
  const proof = prove(clusterKey, { ...transcript, role: 'dialer' })
  say(channel, { type: 'proof', proof, ...(announce === undefined ? {} : { announce }) })
  return hear(channel, ['welcome', 'offer', 'yield', 'full'], signal)
}

/**
 * Lets a dialler prove that it knows the cluster key; the answer is the caller's to send. Returns what the dialler
 * announced.
 * @throws {AdmissionError} when it does not, or says something else.
 */
export async function admitAsListener(
  channel: Channel,
  parties: Parties,
  options: { readonly clusterKey: KeyObject; readonly signal: AbortSignal },
): Promise<Announcement | undefined> {
  const { clusterKey, signal } = options
  const hello = await hear(channel, ['hello'], signal)
  const listenerNonce = randomBytes(LIMITS.nonceBytes)
  const transcript = { ...parties, dialerNonce: hello.nonce, listenerNonce }
  say(channel, {
    type: 'challenge',
    nonce: listenerNonce,
    proof: prove(clusterKey, { ...transcript, role: 'listener' }),
  })
  const { proof, announce } = await hear(channel, ['proof'], signal)
  if (!isProof(clusterKey, { ...transcript, role: 'dialer' }, proof)) {
    throw new AdmissionError('bad-proof', `peer ${parties.dialer} does not know the cluster key`)
  }
  return announce
}

/** Sends a handshake message. That it could not be sent shows at the next {@link hear}. */
export function say(channel: Channel, message: HandshakeMessage): void {
  channel.send(handshakeMessages.encode(message))
}

async function hear<T extends HandshakeMessage['type']>(
  channel: Channel,
  types: readonly T[],
  signal: AbortSignal,
): Promise<MessageOf<T>> {
  let message: HandshakeMessage
  try {
    const { done, value } = await abortable(channel.messages.next(), signal)
    if (done) throw new AdmissionError('left', 'the other side left during the handshake')
    message = handshakeMessages.decode(value)
  } catch (error) {
    if (error instanceof AdmissionError) throw error
    if (error instanceof WireError) throw new AdmissionError('malformed', error.message, { cause: error })
    if (signal.aborted) throw signal.reason
    throw new AdmissionError('left', 'the connection broke during the handshake', { cause: error })
  }
  if (isOneOf(message, types)) return message
  throw new AdmissionError('malformed', `unexpected ${message.type} in the handshake`)
}

function isOneOf<T extends HandshakeMessage['type']>(
  message: HandshakeMessage,
  types: readonly T[],
): message is MessageOf<T> {
  return types.some(type => type === message.type)
}

/** A proof of the cluster key. */
export function prove(clusterKey: KeyObject, transcript: Transcript): Uint8Array {
  return createHmac('sha256', clusterKey).update(admissionTranscript(transcript)).digest()
}

/** Whether `proof`, of the right length, is one; in constant time. */
export function isProof(clusterKey: KeyObject, transcript: Transcript, proof: Uint8Array): boolean {
  return timingSafeEqual(prove(clusterKey, transcript), proof)
}
