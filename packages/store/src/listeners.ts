/** Handlers of one kind of event, called in the order in which they came. */
export class Listeners<Args extends readonly unknown[]> {
  #handlers = new Set<{ readonly call: (...args: Args) => void }>()
  #onError: (error: unknown) => void

  /** `onError` hears what a handler throws, so that one bad handler can't stop the others or the store. */
  constructor(onError: (error: unknown) => void) {
    this.#onError = onError
  }

  add(handler: (...args: Args) => void): () => void {
    const entry = { call: handler }
    this.#handlers.add(entry)
    return () => {
      this.#handlers.delete(entry)
    }
  }

  emit(...args: Args): void {
    for (const handler of this.#handlers) {
      try {
        handler.call(...args)
      } catch (error) {
        this.#onError(error)
      }
    }
  }
}
