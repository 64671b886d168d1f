import { DarterError, quoted } from '@darter/oci'
import { OriginStatusError } from '@darter/origin'
import type { Clock } from '@darter/runtime'
import type { Upstream } from './upstreams.ts'

const DOWN_CODES: ReadonlySet<string> = new Set([
  'ORIGIN_UNREACHABLE',
  'ORIGIN_TIMEOUT',
  'ORIGIN_STALLED',
  'ORIGIN_INTERRUPTED',
  'UPSTREAM_TIMEOUT',
])

/** An upstream that did not answer in the time that a client is made to wait. */
export class UpstreamTimeoutError extends DarterError {
  readonly code = 'UPSTREAM_TIMEOUT'

  constructor(upstream: string, ms: number) {
    super(`the upstream ${quoted(upstream)} did not answer within ${ms} ms`)
  }
}

/** Whether a failure says nothing about the content asked for, only that the upstream cannot answer now. */
export function isUpstreamDown(error: unknown): boolean {
  if (!(error instanceof DarterError)) return false
  if (DOWN_CODES.has(error.code)) return true
  return error instanceof OriginStatusError && (error.status >= 500 || error.status === 429)
}

/** A short memory of which upstreams cannot answer, so that not every request waits for a timeout of its own. */
export interface UpstreamHealth {
  /** Whether the upstream failed to answer a moment ago. */
  isDown(upstream: Upstream): boolean
  /** Notes how a request to the upstream ended; undefined: well. */
  note(upstream: Upstream, error: unknown): void
}

/** A memory of failures that lasts `downMs` (3 s by default) each. */
export function createUpstreamHealth(options: {
  readonly clock: Clock
  readonly downMs?: number
}): UpstreamHealth {
  const { clock, downMs = 3000 } = options
  const downUntil = new Map<string, number>()
  return {
    isDown: upstream => clock.now() < (downUntil.get(upstream.name) ?? Number.NEGATIVE_INFINITY),
    note: (upstream, error) => {
      if (isUpstreamDown(error)) downUntil.set(upstream.name, clock.now() + downMs)
      else downUntil.delete(upstream.name)
    },
  }
}
