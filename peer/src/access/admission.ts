import { OriginStatusError } from '@darter/origin'
import type { Clock } from '@darter/runtime'
import { LRUCache } from 'lru-cache'
import type { Caller } from './caller.ts'

const MAX_REPOSITORIES = 8192

/**
 * Reads as everyone where everyone may read. A caller's token then counts for nothing: the upstream is asked once for
 * the whole cluster, what is fetched does not depend on a token that expires, and nobody's rights are mixed up.
 */
export interface Admission {
  /**
   * Runs `act` as a caller without credentials; where that is refused, as the caller itself.
   * @returns who was let in, and what `act` returned; throws what `act` throws for the caller itself.
   */
  admit<T>(
    caller: Caller,
    act: (caller: Caller) => Promise<T>,
    signal: AbortSignal,
  ): Promise<{ readonly caller: Caller; readonly value: T }>
}

/** `ttlMs`: how long a repository that refused everyone is not tried that way again. */
export function createAdmission(options: { readonly clock: Clock; readonly ttlMs: number }): Admission {
  const closed = new LRUCache<string, true>({
    max: MAX_REPOSITORIES,
    ttl: Math.max(1, options.ttlMs),
    perf: options.clock,
  })
  return {
    admit: async (caller, act, signal) => {
      const key = `${caller.upstream.name}|${caller.repository}`
      const alone = caller.authorization === undefined || caller.upstream.hasCredentials || closed.has(key)
      if (!alone) {
        const everyone = { ...caller, authorization: undefined }
        try {
          return { caller: everyone, value: await act(everyone) }
        } catch (error) {
          signal.throwIfAborted()
          // A 404 may be a registry's way to hide what a caller with credentials can see.
          if (error instanceof OriginStatusError && [401, 403, 404].includes(error.status))
            closed.set(key, true)
        }
      }
      return { caller, value: await act(caller) }
    },
  }
}
