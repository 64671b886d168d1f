import type { Digest } from '@darter/oci'
import type { Authorization } from '@darter/origin'
import type { Upstream } from '../upstreams.ts'

/** What kind of endpoint serves the content. */
export type ContentKind = 'blob' | 'manifest'

/** Where a blob may be read when nobody nearby has it. */
export interface BlobSource {
  readonly upstream: Upstream
  readonly repository: string
  /** The caller's own; already accepted by the upstream for this repository. */
  readonly authorization?: Authorization
  /** The `Via` chain of the caller's request. */
  readonly via?: string | undefined
  /**
   * The digest of the bytes where the blob goes by another name than that; one for all who use the name. Left out: the
   * name is the digest.
   */
  readonly content?: Digest | undefined
  /** The content's URL, where it may be told to others; they read it with their own rights. */
  readonly url?: string | undefined
  /** Called when the origin refuses to give the blob this way; the download may go on in others. Must not throw. */
  readonly onRefused?: ((refusal: Error) => void) | undefined
}

/** A part of a blob in bytes: from `from` up to and not including `to`. Never empty but for the empty blob. */
export interface ByteSpan {
  readonly from: number
  readonly to: number
}

/** The part of a blob that a caller asked for. */
export interface ChosenSpan extends ByteSpan {
  /** From somewhere to the end, as those ask who want all of that. */
  readonly isOpen?: true
  /** How much the caller asked for at once, in bytes, where this is one of several parts of it. */
  readonly of?: number
}

/** What a caller wants of a blob, once its size is known. */
export type SpanChoice = (size: number) => ChosenSpan | 'whole' | 'unsatisfiable'

/** A caller's request for (part of) a blob. */
export interface OpenBlobRequest extends BlobSource {
  readonly digest: Digest
  /** Bytes, where a manifest told it. A hint: the blob's own digest decides. */
  readonly size?: number | undefined
  /** 'whole' when left out. */
  readonly span?: SpanChoice | undefined
  /** Aborted when the caller is gone; the shared download goes on if others need it. */
  readonly signal: AbortSignal
}

/** Where the bytes that one caller was sent came from. */
export interface ByteSources {
  readonly fromDisk: number
  readonly fromPeers: number
  readonly fromOrigin: number
}

/** A caller's socket, into which bytes may go without coming through this program. */
export interface CallerSocket {
  /** Its descriptor, while everything that was handed out before has left for it; undefined: it takes no bytes this way now. */
  descriptor(): number | undefined
  /** So many of the body's bytes went there. */
  moved(bytes: number): void
}

/** A blob on its way to one caller. */
export interface BlobRead extends ByteSpan {
  /** The whole blob's size in bytes. */
  readonly size: number
  /**
   * Exactly the bytes of the span, verified, in order; can be iterated once. A piece is only valid until the next
   * one is asked for. Breaking out of the loop ends this caller's part in the download. When it throws, the caller
   * has less than the whole and its connection must be cut.
   */
  readonly body: AsyncIterable<Uint8Array>
  /** Lets bytes of the body go into a socket between the pieces of {@link body}, in their place. */
  goesTo(socket: CallerSocket): void
  /** What has been handed to this caller so far. */
  sources(): ByteSources
}

/** Blobs as the doors read them: through the store, the swarm and the origin. */
export interface BlobReads {
  /**
   * Starts or joins the shared download of a blob. Resolves once the size is known and the first byte of the span can
   * be delivered; whatever goes wrong before that is thrown, such as the origin's own refusal.
   */
  open(request: OpenBlobRequest): Promise<BlobRead | { readonly unsatisfiable: true; readonly size: number }>
  /** The size in bytes if the store knows it, without asking anyone. */
  knownSize(digest: Digest): number | undefined
  /** A manifest by digest, whole and verified, through the swarm; else from the origin. */
  manifest(
    request: BlobSource & {
      readonly digest: Digest
      readonly size?: number | undefined
      readonly signal: AbortSignal
    },
  ): Promise<{ readonly bytes: Uint8Array; readonly sources: ByteSources }>
  /**
   * Brings all of a blob into the store, without reading it back, and resolves when it is complete there. `onHeld` is told now and then
   * how many bytes of it are held.
   * @throws {StoreFullError} there is no room for it; and what {@link open} throws.
   */
  keep(
    request: BlobSource & {
      readonly digest: Digest
      readonly kind: ContentKind
      readonly size?: number | undefined
      readonly onHeld?: ((bytes: number) => void) | undefined
      /** Until this aborts nobody waits for the blob: it comes in the background. */
      readonly background?: AbortSignal | undefined
      readonly signal: AbortSignal
    },
  ): Promise<void>
  /** Whether the store has all of it. */
  isHeld(digest: Digest): boolean
}

/** Something found out that others in the cluster need not find out again. */
export interface Finding {
  /** At most 4096 characters. */
  readonly value: string
  /** How long it may be believed, ms; 0: only as a last known value. */
  readonly ttlMs: number
}

/**
 * Facts about public content that the whole cluster shares, so that the upstream is asked once and not once per
 * peer. Only what holds for a caller without any credentials may pass here. Keys have at most 4096 characters.
 * What comes back was written by another peer: parse it.
 */
export interface Facts {
  /**
   * The fresh value of a fact: known in the cluster, or found out now by one asker while the others wait for it.
   * Without a scheduler it only calls `find`. A failure of `find` is thrown to its own caller. Undefined when `find` found nothing.
   */
  resolve(
    key: string,
    find: () => Promise<Finding | undefined>,
    signal: AbortSignal,
  ): Promise<string | undefined>
  /** The last value that anyone told, however old; undefined when there is none or the scheduler does not answer soon. */
  lastKnown(key: string, signal: AbortSignal): Promise<string | undefined>
  /** Tells facts that came up on the way. Best effort: bounded, never throws, never waits. */
  publish(facts: ReadonlyMap<string, Finding>): void
}
