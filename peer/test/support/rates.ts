import type { PrefetchConfig } from '../../src/download/prefetch.ts'
import type { DownloadRates } from '../../src/download/rate-limits.ts'

/** Downloads without limits of their own. */
export const UNLIMITED: DownloadRates = {
  fromPeers: undefined,
  fromOrigins: undefined,
  maxInFlightBytes: 64 * 1024 * 1024,
  maxOriginFetches: 4,
  maxUploads: 16,
}

/** Nothing but the ranges that are asked for. */
export const NO_PREFETCH: PrefetchConfig = { enabled: false, bytesPerSecond: 0, threshold: 0 }
