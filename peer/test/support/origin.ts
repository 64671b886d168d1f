import { createHash } from 'node:crypto'
import { type Digest, parseDigest } from '@darter/oci'
import {
  type BlobBody,
  type Origin,
  OriginInterruptedError,
  OriginStatusError,
  OriginUnreachableError,
} from '@darter/origin'

/** What an origin does to one request for a blob. */
export type Deed =
  | { readonly kind: 'serve' }
  | { readonly kind: 'unreachable' }
  | { readonly kind: 'status'; readonly status: number }
  /** Breaks off after this many bytes. */
  | { readonly kind: 'break'; readonly after: number }
  /** Pauses after this many bytes. */
  | { readonly kind: 'pause'; readonly after: number; readonly until: Promise<void> }
  /** Sends one wrong byte at this offset of what is asked for. */
  | { readonly kind: 'wrong'; readonly at: number }
  | { readonly kind: 'ignore-range' }

/** An origin of one blob in memory that does as it is told. */
export interface ScriptedOrigin {
  readonly origin: Origin
  readonly digest: Digest
  readonly bytes: Uint8Array
  /** Bytes that were sent. */
  sent(): number
  requests(): number
  /** The most bodies that were being read at the same moment. */
  peakReads(): number
}

const PIECE = 50_000

/** `deeds` are taken one for each request; afterwards it serves well. */
export function scriptedOrigin(bytes: Uint8Array, deeds: readonly Deed[]): ScriptedOrigin {
  const digest = parseDigest(`sha256:${createHash('sha256').update(bytes).digest('hex')}`)
  let sent = 0
  let requests = 0
  let reads = 0
  let peakReads = 0
  const never = async (): Promise<never> => {
    throw new Error('not part of this origin')
  }
  const pieces = async function* (from: number, to: number, deed: Deed): AsyncGenerator<Uint8Array> {
    for (let at = from; at < to; at += PIECE) {
      if (deed.kind === 'break' && at - from >= deed.after) {
        throw new OriginInterruptedError('the blob', at - from, to - from)
      }
      if (deed.kind === 'pause' && at - from >= deed.after) await deed.until
      const piece = Uint8Array.from(bytes.subarray(at, Math.min(to, at + PIECE)))
      if (deed.kind === 'wrong' && deed.at >= at && deed.at < at + piece.length) piece[deed.at - at]! ^= 1
      sent += piece.length
      yield piece
    }
  }
  const body = async function* (from: number, to: number, deed: Deed): AsyncGenerator<Uint8Array> {
    peakReads = Math.max(peakReads, ++reads)
    try {
      yield* pieces(from, to, deed)
    } finally {
      reads--
    }
  }
  const origin: Origin = {
    name: 'scripted',
    description: 'a blob in memory',
    isPublic: true,
    headManifest: never,
    getManifest: never,
    forward: never,
    headBlob: async () => ({ digest, size: bytes.length, mediaType: 'application/octet-stream' }),
    openBlob: async (_digest, { from = 0, to = bytes.length }): Promise<BlobBody> => {
      const deed = deeds[requests++] ?? { kind: 'serve' }
      if (deed.kind === 'unreachable') throw new OriginUnreachableError('nobody is there')
      if (deed.kind === 'status') throw new OriginStatusError('the blob', deed.status, {}, new Uint8Array(0))
      const ignored = deed.kind === 'ignore-range'
      const [start, end] = ignored ? [0, bytes.length] : [from, to]
      return {
        offset: start,
        size: bytes.length,
        honouredRange: !ignored,
        body: body(start, end, deed),
        cancel: () => {},
      }
    },
    close: async () => {},
  }
  return { origin, digest, bytes, sent: () => sent, requests: () => requests, peakReads: () => peakReads }
}
