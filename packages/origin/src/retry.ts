import { type Clock, createBackoff, type Random } from '@darter/runtime'
import { type Headers, OriginInterruptedError, OriginStatusError, OriginUnreachableError } from './errors.ts'
import { textOf } from './headers.ts'

/** How often and how patiently a failed read is tried again. */
export interface RetryOptions {
  /** Tries in all. */
  readonly attempts: number
  /** The first bound of the random wait, in ms; it doubles with each try. */
  readonly backoffBaseMs: number
  readonly backoffMaxMs: number
  /** The longest `Retry-After` that is waited for, in ms; with a longer one the refusal stands. */
  readonly retryAfterMaxMs: number
  readonly random: Random
  readonly clock: Clock
  /** Waits, and rejects with the signal's reason. */
  readonly sleep: (ms: number, signal: AbortSignal) => Promise<void>
}

const BUSY = new Set([429, 502, 503, 504])

/** Runs `work` until it succeeds, fails for good, or has been tried often enough; then its last error is thrown. */
export async function retrying<T>(
  options: RetryOptions,
  signal: AbortSignal,
  work: () => Promise<T>,
): Promise<T> {
  const backoff = createBackoff({
    baseMs: options.backoffBaseMs,
    maxMs: options.backoffMaxMs,
    random: options.random,
  })
  for (let attempt = 1; ; attempt++) {
    try {
      return await work()
    } catch (error) {
      if (attempt >= options.attempts || signal.aborted || !isTransient(error)) throw error
      const told = error instanceof OriginStatusError ? retryAfterMs(error.headers, options.clock) : 0
      if (told > options.retryAfterMaxMs) throw error
      await options.sleep(told + backoff.next(), signal)
    }
  }
}

function isTransient(error: unknown): boolean {
  if (error instanceof OriginStatusError) return BUSY.has(error.status)
  if (error instanceof OriginUnreachableError) return error.transient
  return error instanceof OriginInterruptedError
}

/** `Retry-After`, seconds or a date (RFC 9110, 10.2.3), in ms from now; 0 when it is missing, past or malformed. */
export function retryAfterMs(headers: Headers, clock: Clock): number {
  const text = textOf(headers['retry-after']).trim()
  if (/^\d+$/.test(text)) return Number(text) * 1000
  const date = Date.parse(text)
  return Number.isNaN(date) ? 0 : Math.max(0, date - clock.wall())
}
