/** How much a store may hold. */
export interface CapacityOptions {
  /** The most bytes of chunk data to hold. */
  readonly quotaBytes: number
  /** The part of the quota from which on a write makes the store evict. From 0 to 1; default 0.9. */
  readonly highWatermark?: number
  /** The part of the quota down to which it then evicts. At most the high watermark; default 0.8. */
  readonly lowWatermark?: number
  /** The most blobs to hold, so that tiny ones don't use up memory and inodes. Default 100 000. */
  readonly maxBlobs?: number
}

/** {@link CapacityOptions}, checked and in absolute numbers. */
export interface Capacity {
  readonly quotaBytes: number
  readonly highBytes: number
  readonly lowBytes: number
  /** The part of what is held that goes at once when the disk is full before the quota is. */
  readonly spareFraction: number
  readonly maxBlobs: number
  /** How many blobs go at once when there are too many. */
  readonly spareBlobs: number
}

/** @throws {RangeError} for values out of bounds. */
export function capacity(options: CapacityOptions): Capacity {
  const { quotaBytes, highWatermark = 0.9, lowWatermark = 0.8, maxBlobs = 100_000 } = options
  if (!Number.isSafeInteger(quotaBytes) || quotaBytes < 0) {
    throw new RangeError(`quotaBytes is a whole number of bytes, not ${quotaBytes}`)
  }
  if (!(lowWatermark >= 0 && lowWatermark <= highWatermark && highWatermark <= 1)) {
    throw new RangeError(
      `the watermarks are 0 <= low <= high <= 1, not low ${lowWatermark} and high ${highWatermark}`,
    )
  }
  if (!Number.isSafeInteger(maxBlobs) || maxBlobs < 1) {
    throw new RangeError(`maxBlobs is a whole number from 1, not ${maxBlobs}`)
  }
  return {
    quotaBytes,
    highBytes: Math.floor(quotaBytes * highWatermark),
    lowBytes: Math.floor(quotaBytes * lowWatermark),
    spareFraction: highWatermark === 0 ? 1 : 1 - lowWatermark / highWatermark,
    maxBlobs,
    spareBlobs: Math.max(1, Math.floor(maxBlobs / 100)),
  }
}

/**
 * Chooses what to evict so that `bytes` more fit.
 * @param used bytes held now.
 * @param idle what may go, least recently used first.
 * @returns undefined when they can't fit whatever goes; else the blobs that have to go, maybe none.
 */
export function chooseVictims<Blob extends { readonly heldBytes: number }>(
  { quotaBytes, highBytes, lowBytes }: Capacity,
  used: number,
  bytes: number,
  idle: Iterable<Blob>,
): Blob[] | undefined {
  if (used + bytes <= highBytes) return []
  const victims: Blob[] = []
  let left = used
  for (const blob of idle) {
    if (left + bytes <= lowBytes) break
    victims.push(blob)
    left -= blob.heldBytes
  }
  return left + bytes <= quotaBytes ? victims : undefined
}

/** The oldest of `idle` until they hold at least `bytes`. */
export function chooseOldest<Blob extends { readonly heldBytes: number }>(
  bytes: number,
  idle: Iterable<Blob>,
): Blob[] {
  const victims: Blob[] = []
  let freed = 0
  for (const blob of idle) {
    if (freed >= bytes) break
    victims.push(blob)
    freed += blob.heldBytes
  }
  return victims
}
