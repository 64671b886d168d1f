import type { Logger } from '@darter/runtime'
import type { Unsubscribe } from './contract.ts'

/** Subscribers of one kind of event. */
export interface Event<A extends readonly unknown[]> {
  on(handler: (...args: A) => void): Unsubscribe
  /** Calls every handler in turn. One that throws is logged, and does not keep the others from being called. */
  emit(...args: A): void
}

/** An {@link Event} without subscribers. `name` is for the log. */
export function createEvent<A extends readonly unknown[]>(name: string, log: Logger): Event<A> {
  const handlers = new Set<{ readonly call: (...args: A) => void }>()
  return {
    on: handler => {
      const entry = { call: handler }
      handlers.add(entry)
      return () => {
        handlers.delete(entry)
      }
    },
    emit: (...args) => {
      for (const { call } of Array.from(handlers)) {
        try {
          call(...args)
        } catch (error) {
          log.error({ err: error, event: name }, 'event handler failed')
        }
      }
    },
  }
}
