import { abortable } from './abort.ts'

/** Runs one attempt per key at a time; whoever asks meanwhile shares it. */
export interface SingleFlight<K, V> {
  /**
   * Joins the attempt that runs for `key`, or starts one. A caller whose signal aborts leaves with its signal's
   * reason; the attempt's own signal aborts only when the last caller has left. Nothing is remembered afterwards.
   */
  run(key: K, signal: AbortSignal, attempt: (signal: AbortSignal) => Promise<V>): Promise<V>
  /** How many attempts are running. */
  readonly size: number
}

interface Flight<V> {
  readonly result: Promise<V>
  readonly controller: AbortController
  callers: number
}

/** A {@link SingleFlight} with no attempts running. */
export function createSingleFlight<K, V>(): SingleFlight<K, V> {
  const flights = new Map<K, Flight<V>>()

  const begin = (key: K, attempt: (signal: AbortSignal) => Promise<V>): Flight<V> => {
    const controller = new AbortController()
    const forget = () => {
      if (flights.get(key) === flight) flights.delete(key)
    }
    const result = (async () => attempt(controller.signal))()
    const flight: Flight<V> = { result, controller, callers: 0 }
    flights.set(key, flight)
    result.then(forget, forget)
    return flight
  }

  return {
    get size() {
      return flights.size
    },
    run: async (key, signal, attempt) => {
      signal.throwIfAborted()
      const flight = flights.get(key) ?? begin(key, attempt)
      flight.callers++
      try {
        return await abortable(flight.result, signal)
      } finally {
        flight.callers--
        if (flight.callers === 0 && flights.get(key) === flight) {
          flights.delete(key)
          flight.controller.abort(signal.reason)
        }
      }
    },
  }
}
