import { DarterError, type Digest, quoted } from '@darter/oci'

/** Another process (or another store in this one) has the directory open. */
export class StoreLockedError extends DarterError {
  readonly code = 'STORE_LOCKED'

  constructor(directory: string) {
    super(
      `the store in ${quoted(directory)} is in use by another process: stop that one, or give this one a directory of its own`,
    )
  }
}

/** The directory was written by a newer version. */
export class StoreVersionError extends DarterError {
  readonly code = 'STORE_VERSION'

  constructor(directory: string, found: number, supported: number) {
    super(
      `the store in ${quoted(directory)} has format ${found}, and this version reads up to ${supported}: upgrade, or use another directory`,
    )
  }
}

/** The store was closed. */
export class StoreClosedError extends DarterError {
  readonly code = 'STORE_CLOSED'

  constructor() {
    super('the store is closed')
  }
}

/** A blob's handle was used after its release. */
export class HandleReleasedError extends DarterError {
  readonly code = 'STORE_HANDLE_RELEASED'

  constructor(digest: Digest) {
    super(`the handle to blob ${digest} was already released`)
  }
}

/** The disk or the index failed. `cause` holds the system's own error. */
export class StoreIoError extends DarterError {
  readonly code = 'STORE_IO'

  constructor(action: string, cause: unknown) {
    super(`the store could not ${action}: ${cause instanceof Error ? cause.message : String(cause)}`, {
      cause,
    })
  }
}

/** A blob is known with another size than the one given. */
export class BlobSizeMismatchError extends DarterError {
  readonly code = 'BLOB_SIZE_MISMATCH'

  constructor(digest: Digest, known: number, given: number) {
    super(
      `blob ${digest} is held with a size of ${known} bytes, not ${given}: one of the two is wrong; remove it to start anew`,
    )
  }
}

/** A blob was to be marked complete and is not. */
export class BlobIncompleteError extends DarterError {
  readonly code = 'BLOB_INCOMPLETE'

  constructor(digest: Digest, held: number, count: number) {
    super(`blob ${digest} can't be complete: ${held} of its ${count} chunks are held`)
  }
}

/** A chunk's data does not match its hash; it is not held any more. */
export class ChunkCorruptError extends DarterError {
  readonly code = 'CHUNK_CORRUPT'

  constructor(digest: Digest, index: number) {
    super(`chunk ${index} of blob ${digest} was damaged in the store and was dropped: fetch it again`)
  }
}

/** A chunk is not held. */
export class ChunkMissingError extends DarterError {
  readonly code = 'CHUNK_MISSING'

  constructor(digest: Digest, index: number) {
    super(`chunk ${index} of blob ${digest} is not held`)
  }
}
