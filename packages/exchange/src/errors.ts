import { DarterError, quoted } from '@darter/oci'
import type { Refusal } from '@darter/wire'

/** There is no token where one was expected. */
export class MissingTokenError extends DarterError {
  readonly code = 'TOKEN_MISSING'

  constructor(file: string) {
    super(
      `there is no token at ${quoted(file)}: copy the scheduler's admin.token (mode 0600), or name it with --scheduler-admin-token-file`,
    )
  }
}

/** There is no cluster key where one was expected. */
export class MissingClusterKeyError extends DarterError {
  readonly code = 'CLUSTER_KEY_MISSING'

  constructor(file: string) {
    super(
      `there is no cluster key at ${quoted(file)}: copy it from the scheduler's data directory (mode 0600)`,
    )
  }
}

/** A secret's file that other users of the machine may read or change. */
export class InsecureFileError extends DarterError {
  readonly code = 'SECRET_FILE_EXPOSED'

  constructor(file: string, mode: number) {
    super(
      `${quoted(file)} holds a secret but other users may reach it (mode ${mode.toString(8).padStart(4, '0')}): run chmod 600 on it`,
    )
  }
}

/** A secret's file whose content is not what it should be. */
export class InvalidSecretError extends DarterError {
  readonly code = 'SECRET_FILE_INVALID'

  constructor(file: string, expected: string, options?: ErrorOptions) {
    super(
      `${quoted(file)} does not hold ${expected}: restore it, or remove it to have a new one made`,
      options,
    )
  }
}

/** An address from the configuration that cannot be used. */
export class InvalidAddressError extends DarterError {
  readonly code = 'ADDRESS_INVALID'

  constructor(text: string, expected: string) {
    super(`${quoted(text)} is not ${expected}`)
  }
}

/** A port that could not be opened. */
export class ListenError extends DarterError {
  readonly code = 'LISTEN_FAILED'

  constructor(what: string, address: string, cause: unknown) {
    super(
      `cannot listen on ${address} for ${what}: ${cause instanceof Error ? cause.message : String(cause)}`,
      {
        cause,
      },
    )
  }
}

/**
 * Why the other side of a new stream or socket was turned away. `timeout`: it did not come to an end in time. `left`: it
 * closed before it proved anything, as a peer with another cluster key does. `bad-proof`: it does not know the cluster key.
 * `malformed`: it sent something else than a handshake. `unknown-key`: a data link without a key that was offered.
 * `full`: there is no room. `busy`: too many come at once.
 */
export type RefusalReason = 'timeout' | 'left' | 'bad-proof' | 'malformed' | 'unknown-key' | 'full' | 'busy'

/** A handshake that did not lead to admission. */
export class AdmissionError extends DarterError {
  readonly code = 'ADMISSION_REFUSED'
  readonly reason: RefusalReason
  /** For `busy`: how long the other side asks to stay away, in ms. */
  readonly retryAfterMs: number | undefined

  constructor(
    reason: RefusalReason,
    message: string,
    options?: ErrorOptions & { readonly retryAfterMs?: number },
  ) {
    super(message, options)
    this.reason = reason
    this.retryAfterMs = options?.retryAfterMs
  }
}

/** No data link to a neighbour could be made. */
export class DialError extends DarterError {
  readonly code = 'LINK_DIAL_FAILED'

  constructor(peerId: string, why: string, options?: ErrorOptions) {
    super(`no link to peer ${quoted(peerId)}: ${why}`, options)
  }
}

/** A neighbour will not serve a chunk. */
export class ChunkRefusedError extends DarterError {
  readonly code = 'CHUNK_REFUSED'
  /** `missing`: not held. `busy`: worth trying again. `failed`: reading it went wrong over there. */
  readonly reason: Refusal

  constructor(peerId: string, reason: Refusal) {
    super(`peer ${quoted(peerId)} does not serve the chunk: ${reason}`)
    this.reason = reason
  }
}

/** A link that broke, or was closed, while it was needed. */
export class LinkClosedError extends DarterError {
  readonly code = 'LINK_CLOSED'

  constructor(peerId: string, why: string, options?: ErrorOptions) {
    super(`the link to peer ${quoted(peerId)} closed: ${why}`, options)
  }
}

/** A neighbour that neither sends what was asked for nor takes what it asked for. */
export class LinkStalledError extends DarterError {
  readonly code = 'LINK_STALLED'

  constructor(peerId: string, what: string, ms: number) {
    super(`peer ${quoted(peerId)} ${what} for ${ms} ms`)
  }
}

/** A neighbour that breaks the rules of the link. */
export class LinkProtocolError extends DarterError {
  readonly code = 'LINK_PROTOCOL'

  constructor(peerId: string, why: string, options?: ErrorOptions) {
    super(`peer ${quoted(peerId)} broke the link protocol: ${why}`, options)
  }
}

/** What was thrown, as an Error. */
export function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown))
}

/** How long the other side asked to stay away, in ms; undefined when that is not why it failed. */
export function retryAfterOf(thrown: unknown): number | undefined {
  const attempts: unknown[] = thrown instanceof AggregateError ? thrown.errors : [thrown]
  for (const error of attempts) if (error instanceof AdmissionError) return error.retryAfterMs
  return undefined
}

/** Why something failed: of several attempts that failed, the one that got furthest. */
export function reasonOf(thrown: unknown): string {
  const attempts: unknown[] = thrown instanceof AggregateError ? thrown.errors : [thrown]
  const refused = attempts.find(error => error instanceof AdmissionError)
  return asError(refused ?? attempts[0] ?? thrown).message
}
