import { quoted } from '@darter/oci'
import { decode, encode } from 'cborg'
import type { z } from 'zod'
import type { PeerMessage, SchedulerMessage } from './control.ts'
import { WireError } from './errors.ts'
import type { HandshakeMessage } from './handshake.ts'
import { LIMITS } from './limits.ts'
import type { Introduction } from './link.ts'
import { handshakeMessage, introduction, peerMessage, schedulerMessage } from './schema.ts'

/** Turns messages of one kind into bytes (CBOR, RFC 8949) and back. */
export interface Codec<M> {
  /**
   * @throws {WireError} for a message that the other side would refuse: `too-large` when a blob has so many chunks that
   * their hashes do not fit, otherwise `invalid`.
   */
  encode(message: M): Uint8Array
  /**
   * Reads untrusted bytes. The message shares no memory with them.
   * @throws {WireError}
   */
  decode(bytes: Uint8Array): M
}

const DECODING = {
  strict: true,
  allowIndefinite: false,
  allowUndefined: false,
  allowInfinity: false,
  allowNaN: false,
  allowBigInt: false,
  rejectDuplicateMapKeys: true,
} as const

const ENCODING = { ignoreUndefinedProperties: true } as const

function codec<M extends { readonly type: string }>(
  kind: string,
  schema: z.ZodType<M>,
  limit: number,
): Codec<M> {
  const check = (value: unknown): M => {
    const result = schema.safeParse(value)
    if (result.success) return result.data
    const issue = result.error.issues[0]
    const type = typeOf(value)
    if (issue?.code === 'invalid_union' && issue.path.length === 1 && issue.path[0] === 'type') {
      throw new WireError('unknown-type', `${kind} of unknown type ${quoted(type)}`)
    }
    const where = issue?.path.join('.') ?? ''
    throw new WireError(
      'invalid',
      `${kind} ${quoted(type)} is invalid${where === '' ? '' : ` at ${quoted(where)}`}: ${quoted(issue?.message ?? '')}`,
    )
  }
  return {
    encode: message => {
      const bytes = encode(check(message), ENCODING)
      if (bytes.length > limit) throw tooLarge(kind, bytes.length, limit)
      return bytes
    },
    decode: bytes => {
      if (bytes.length > limit) throw tooLarge(kind, bytes.length, limit)
      let value: unknown
      try {
        // cborg copies byte strings out of a plain Uint8Array, but not out of every subclass.
        value = decode(new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length), DECODING)
      } catch (error) {
        throw new WireError('malformed', `${kind} of ${bytes.length} bytes is not CBOR`, { cause: error })
      }
      return check(value)
    },
  }
}

function tooLarge(kind: string, length: number, limit: number): WireError {
  return new WireError('too-large', `${kind} of ${length} bytes is over the limit of ${limit}`)
}

function typeOf(value: unknown): string {
  return typeof value === 'object' && value !== null && 'type' in value ? String(value.type) : typeof value
}

/** What peers send to their scheduler. */
export const peerMessages: Codec<PeerMessage> = codec('peer message', peerMessage, LIMITS.messageBytes)
/** What a scheduler sends to its peers. */
export const schedulerMessages: Codec<SchedulerMessage> = codec(
  'scheduler message',
  schedulerMessage,
  LIMITS.messageBytes,
)
/** What neighbours send to each other at the beginning and end of their talk of a blob. */
export const introductions: Codec<Introduction> = codec('introduction', introduction, LIMITS.messageBytes)
/** What both sides of a new stream send until they trust each other. */
export const handshakeMessages: Codec<HandshakeMessage> = codec(
  'handshake message',
  handshakeMessage,
  LIMITS.handshakeBytes,
)
