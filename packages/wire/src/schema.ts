import { type Digest, isDigest, isRepositoryName } from '@darter/oci'
import { Bitfield, chunkLayout, MAX_BLOB_BYTES, MAX_CHUNK_BYTES } from '@darter/swarm'
import { z } from 'zod'
import type { ContentPlace, PeerMessage, SchedulerMessage } from './control.ts'
import type { HandshakeMessage } from './handshake.ts'
import { LIMITS } from './limits.ts'
import type { Introduction } from './link.ts'

/** Bytes of a sha256. */
const HASH_BYTES = 32
const MAX_CHUNKS = MAX_BLOB_BYTES / MAX_CHUNK_BYTES
const MAX_DURATION_MS = 2 ** 31 - 1

const bytes = z.instanceof(Uint8Array)
const fixedBytes = (length: number) => bytes.refine(value => value.length === length, `not ${length} bytes`)
const whole = (max: number) => z.int().min(0).max(max)

const blob = z.custom<Digest>(value => typeof value === 'string' && isDigest(value), 'not a digest')
const size = whole(MAX_BLOB_BYTES)
const chunk = whole(MAX_CHUNKS - 1)
const chunks = z.array(chunk).min(1).max(LIMITS.chunkIndices)
const serial = whole(Number.MAX_SAFE_INTEGER)
const hashes = bytes.refine(value => value.length % HASH_BYTES === 0, 'not a whole number of hashes')
const factKey = z.string().min(1).max(LIMITS.factChars)
const factValue = z.string().max(LIMITS.factChars)

const upstream = z.string().regex(/^[0-9a-f]{16}$/)
const place: z.ZodType<ContentPlace> = z.union([
  z.strictObject({
    upstream: z.string().regex(/^[!-~]{1,255}$/),
    repository: z.string().refine(isRepositoryName, 'not a repository'),
    kind: z.enum(['blob', 'manifest']),
  }),
  z.strictObject({
    url: z
      .string()
      .max(LIMITS.targetChars)
      .regex(/^(?:https?|s3):\/\/[!-~]+$/),
    digest: blob,
  }),
])
const job = z.string().regex(/^[0-9a-f]{32}$/)
const shown = (max: number) =>
  z
    .string()
    .max(max)
    .regex(/^[ -~]*$/)
const failure = z.strictObject({
  what: shown(LIMITS.targetChars),
  code: z.string().regex(/^[A-Z0-9_]{1,64}$/),
  message: shown(LIMITS.failureChars),
})
const peerId = z.string().regex(/^[0-9A-Za-z_-]{1,128}$/)
const multiaddr = z
  .string()
  .max(LIMITS.addressChars)
  .regex(/^\/[!-~]+$/)
const deadMs = z.int().min(100).max(LIMITS.deadMs)
const zone = z.string().regex(/^[ -~]{0,128}$/)
const addresses = z.array(multiaddr).max(LIMITS.addresses)
const peerAddress = z.strictObject({ id: peerId, addresses, zone })

/** NaN, which equals no length, for a size out of bounds: these checks run whether or not others failed. */
function chunkCount(size: number): number {
  const valid = Number.isSafeInteger(size) && size >= 0 && size <= MAX_BLOB_BYTES
  return valid ? chunkLayout(size).count : Number.NaN
}

/** A verified list: one hash for each chunk. */
function hasAllHashes(message: { size: number; hashes: Uint8Array }): boolean {
  return message.hashes.length === chunkCount(message.size) * HASH_BYTES
}

function bitfieldFits(message: { size: number; held: Uint8Array }): boolean {
  return message.held.length === Math.ceil(chunkCount(message.size) / 8)
}

/** One hash for each chunk that the bitfield says is held. */
function hashesFit(message: { size: number; held: Uint8Array; hashes: Uint8Array }): boolean {
  if (!bitfieldFits(message)) return false
  const { count } = Bitfield.fromBytes(chunkCount(message.size), message.held)
  return message.hashes.length === count * HASH_BYTES
}

const wrongBitfield = 'the bitfield does not fit the size'
const wrongHashes = 'the hashes do not fit the chunks'

/** {@link PeerMessage} as the network may bring it. */
export const peerMessage: z.ZodType<PeerMessage> = z.discriminatedUnion('type', [
  z
    .strictObject({
      type: z.literal('join'),
      blob,
      size,
      held: bytes,
      wants: z.boolean(),
      upstream: upstream.exactOptional(),
      place: place.exactOptional(),
    })
    .refine(bitfieldFits, wrongBitfield),
  z.strictObject({ type: z.literal('held'), blob, chunks }),
  z.strictObject({ type: z.literal('dropped'), blob, chunks }),
  z.strictObject({ type: z.literal('leave'), blob }),
  z.strictObject({
    type: z.literal('lease-demand'),
    blob,
    slots: whole(LIMITS.chunkIndices),
    from: chunk,
    background: z.literal(true).exactOptional(),
  }),
  z.strictObject({ type: z.literal('lease-alive'), blob, lease: serial }),
  z.strictObject({
    type: z.literal('lease-end'),
    blob,
    lease: serial,
    outcome: z.enum(['done', 'failed', 'released']),
    wholeOnly: z.boolean().exactOptional(),
    retryAfterMs: whole(MAX_DURATION_MS).exactOptional(),
  }),
  z.strictObject({ type: z.literal('vouch'), blob, size, hashes }).refine(hasAllHashes, wrongHashes),
  z.strictObject({
    type: z.literal('blame'),
    peer: peerId,
    blob,
    deed: z.enum(['wrong-bytes', 'stalled', 'vanished', 'protocol']),
  }),
  z.strictObject({ type: z.literal('ask'), id: serial, key: factKey, stale: z.boolean() }),
  z.strictObject({
    type: z.literal('tell'),
    key: factKey,
    value: factValue.exactOptional(),
    ttlMs: whole(MAX_DURATION_MS),
  }),
  z.strictObject({
    type: z.literal('preheat-state'),
    job,
    state: z.enum(['running', 'done', 'failed', 'cancelled']),
    held: serial,
    size: serial,
    failures: z.array(failure).max(LIMITS.preheatFailures),
  }),
  z.strictObject({ type: z.literal('seed-end'), blob, reason: z.enum(['refused', 'failed', 'busy']) }),
])

/** {@link SchedulerMessage} as the network may bring it. */
export const schedulerMessage: z.ZodType<SchedulerMessage> = z.discriminatedUnion('type', [
  z.strictObject({
    type: z.literal('neighbours'),
    blob,
    peers: z.array(peerAddress).max(LIMITS.neighbours),
  }),
  z
    .strictObject({ type: z.literal('lease'), blob, lease: serial, from: chunk, to: whole(MAX_CHUNKS) })
    .refine(message => message.from < message.to, 'the lease is empty'),
  z.strictObject({ type: z.literal('lease-void'), blob, lease: serial }),
  z.strictObject({
    type: z.literal('seed'),
    blob,
    size,
    place,
    background: z.literal(true).exactOptional(),
  }),
  z.strictObject({
    type: z.literal('preheat'),
    job,
    target: z
      .string()
      .max(LIMITS.targetChars)
      .regex(/^[!-~]+$/),
    digest: blob.exactOptional(),
    platform: shown(64).exactOptional(),
    authorization: shown(LIMITS.authorizationChars).exactOptional(),
  }),
  z.strictObject({ type: z.literal('preheat-cancel'), job }),
  z.strictObject({ type: z.literal('silence'), deadMs }),
  z.strictObject({ type: z.literal('verified'), blob, hashes }),
  z.strictObject({
    type: z.literal('answer'),
    id: serial,
    state: z.enum(['known', 'find-out', 'unknown']),
    value: factValue.exactOptional(),
  }),
])

/** {@link Introduction} as the network may bring it. */
export const introduction: z.ZodType<Introduction> = z.discriminatedUnion('type', [
  z
    .strictObject({ type: z.literal('interest'), blob, size, held: bytes, hashes })
    .refine(hashesFit, wrongHashes),
  z
    .strictObject({ type: z.literal('holds'), blob, size, held: bytes, hashes })
    .refine(hashesFit, wrongHashes),
  z.strictObject({ type: z.literal('leave'), blob }),
])

/** {@link HandshakeMessage} as the network may bring it. */
export const handshakeMessage: z.ZodType<HandshakeMessage> = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('hello'), nonce: fixedBytes(LIMITS.nonceBytes) }),
  z.strictObject({
    type: z.literal('challenge'),
    nonce: fixedBytes(LIMITS.nonceBytes),
    proof: fixedBytes(LIMITS.proofBytes),
  }),
  z.strictObject({
    type: z.literal('proof'),
    proof: fixedBytes(LIMITS.proofBytes),
    announce: z.strictObject({ addresses, zone, seed: z.boolean().exactOptional() }).exactOptional(),
  }),
  z.strictObject({ type: z.literal('welcome'), deadMs }),
  z.strictObject({
    type: z.literal('offer'),
    port: z.int().min(1).max(65_535),
    pskId: z.string().regex(/^[0-9a-f]{32}$/),
    psk: fixedBytes(LIMITS.pskBytes),
  }),
  z.strictObject({ type: z.literal('yield') }),
  z.strictObject({ type: z.literal('full') }),
])
