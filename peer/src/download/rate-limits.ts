import { chainThrottles, type Clock, createThrottle, type Metrics, type Throttle } from '@darter/runtime'
import { DEFAULT_SESSION_LIMITS, MAX_CHUNK_BYTES } from '@darter/swarm'
import type { TransferConfig } from '../config.ts'

/** The part of an upload rate that each chunk should have at least, in bytes per second: else its receiver looks elsewhere. */
const UPLOAD_SHARE = 128 * 1024
/** With fewer uploads at a time one slow receiver would hold up all others. */
const MIN_UPLOADS = 2
/** Chunks that are asked for ahead under a download rate, as the time in which they may come, in seconds. */
const AHEAD_SECONDS = 2
/** The part of an origin's rate that each read of one download should have at least, in bytes per second. */
const READ_SHARE = 1024 * 1024

/** What the configured rates mean for downloads. An undefined throttle costs nothing. */
export interface DownloadRates {
  /** What comes from neighbours. */
  readonly fromPeers: Throttle | undefined
  /** What comes from origins: their own rate, and the one for everything that is received. */
  readonly fromOrigins: Throttle | undefined
  /** Chunks on their way from neighbours, over all downloads, in bytes. */
  readonly maxInFlightBytes: number
  /** Reads of its origin that one download has under way. */
  readonly maxOriginFetches: number
  /** Chunks sent to neighbours at the same moment, at most. */
  readonly maxUploads: number
}

/** The configured rates at work. */
export interface RateLimits extends DownloadRates {
  /** Chunks sent to neighbours. */
  readonly upload: Throttle | undefined
}

/** The throttles of a peer, and how much it does at the same moment so that each part of it gets on under them. */
export function createRateLimits(config: TransferConfig, clock: Clock, metrics: Metrics): RateLimits {
  const waited = metrics.counter({
    name: 'rate_limit_wait_seconds_total',
    help: 'Time that transfers waited for a configured rate, summed over those that waited at the same moment.',
    labels: ['limit'],
  })
  const throttle = (limit: string, bytesPerSecond: number): Throttle | undefined => {
    if (bytesPerSecond === 0) return undefined
    waited.inc({ limit }, 0)
    return createThrottle({ bytesPerSecond, clock, onWait: ms => waited.inc({ limit }, ms / 1000) })
  }
  const download = throttle('download', config.downloadBytesPerSecond)
  return {
    upload: throttle('upload', config.uploadBytesPerSecond),
    fromPeers: download,
    fromOrigins: chainThrottles(throttle('origin', config.originBytesPerSecond), download),
    ...concurrency(config),
  }
}

/** How much is done at the same moment under the configured rates. */
export function concurrency(
  config: TransferConfig,
): Pick<RateLimits, 'maxUploads' | 'maxInFlightBytes' | 'maxOriginFetches'> {
  const unlimited = (bytesPerSecond: number) =>
    bytesPerSecond === 0 ? Number.POSITIVE_INFINITY : bytesPerSecond
  const upload = unlimited(config.uploadBytesPerSecond)
  const download = unlimited(config.downloadBytesPerSecond)
  const origin = Math.min(download, unlimited(config.originBytesPerSecond))
  return {
    maxUploads: Math.min(config.maxUploads, Math.max(MIN_UPLOADS, Math.floor(upload / UPLOAD_SHARE))),
    maxInFlightBytes: Math.min(config.maxDownloads * MAX_CHUNK_BYTES, download * AHEAD_SECONDS),
    maxOriginFetches: Math.min(
      DEFAULT_SESSION_LIMITS.maxOriginFetches,
      Math.max(1, Math.floor(origin / READ_SHARE)),
    ),
  }
}
