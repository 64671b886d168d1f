import {
  createRegistryOrigin,
  type Origin,
  type RegistryOriginOptions,
  type RegistryLimits,
} from '@darter/origin'

/** Limits that let a test see a timeout soon. */
export const HASTY: Partial<RegistryLimits> = {
  queueTimeoutMs: 2000,
  connectTimeoutMs: 1000,
  headersTimeoutMs: 300,
  progressTimeoutMs: 200,
}

/** A registry origin that waits for nothing between tries and ends with `await using`. */
export function openOrigin(
  url: string,
  options: Partial<RegistryOriginOptions> = {},
): Origin & AsyncDisposable & { readonly waits: readonly number[] } {
  const waits: number[] = []
  const origin = createRegistryOrigin({
    name: 'upstream',
    url,
    loopMarker: 'darter-test',
    random: () => 0.5,
    sleep: async (ms, signal) => {
      signal.throwIfAborted()
      waits.push(ms)
    },
    ...options,
    limits: { ...HASTY, ...options.limits },
  })
  return Object.assign(origin, { waits, [Symbol.asyncDispose]: () => origin.close() })
}
