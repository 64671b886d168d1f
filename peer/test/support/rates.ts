import type { DownloadRates } from '../../src/download/rate-limits.ts'

/** Downloads without limits of their own. */
export const UNLIMITED: DownloadRates = {
  fromPeers: undefined,
  fromOrigins: undefined,
  maxInFlightBytes: 64 * 1024 * 1024,
  maxOriginFetches: 4,
  maxUploads: 16,
}
