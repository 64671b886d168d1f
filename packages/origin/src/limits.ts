import type { RetryOptions } from './retry.ts'
import type { TransportLimits } from './transport.ts'

/** Bounds on what an origin over HTTP does; the defaults are in {@link DEFAULT_LIMITS}. */
export interface OriginLimits
  extends TransportLimits,
    Pick<RetryOptions, 'attempts' | 'backoffBaseMs' | 'backoffMaxMs' | 'retryAfterMaxMs'> {
  /** How long a forwarded write may wait for its answer, in ms: a registry checks a large upload before it does. */
  readonly forwardTimeoutMs: number
}

/** What holds where nothing else is said. */
export const DEFAULT_LIMITS: OriginLimits = {
  connections: 32,
  queueTimeoutMs: 30_000,
  connectTimeoutMs: 5000,
  headersTimeoutMs: 10_000,
  progressTimeoutMs: 10_000,
  forwardTimeoutMs: 300_000,
  attempts: 3,
  backoffBaseMs: 250,
  backoffMaxMs: 2000,
  retryAfterMaxMs: 5000,
}
