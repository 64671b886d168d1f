import { createRegistryOrigin, type Origin, type RegistryOriginOptions } from '@darter/origin'

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
  })
  return Object.assign(origin, { waits, [Symbol.asyncDispose]: () => origin.close() })
}
