interface Waiter {
  readonly bytes: number
  readonly grant: () => void
}

/** Bounds the bytes that are in flight at the same time; who finds no room waits in line. */
export class ByteBudget {
  #free: number
  readonly #waiters: Waiter[] = []

  /** @param bytes in all. A request for more than that is served alone. */
  constructor(bytes: number) {
    this.#free = bytes
    this.#total = bytes
  }

  readonly #total: number

  /** Takes room for `bytes`; the result gives it back (once). Rejects with the signal's reason when aborted. */
  async take(bytes: number, signal: AbortSignal): Promise<() => void> {
    signal.throwIfAborted()
    const wanted = Math.min(bytes, this.#total)
    if (this.#waiters.length > 0 || this.#free < wanted) {
      await new Promise<void>((resolve, reject) => {
        const waiter: Waiter = {
          bytes: wanted,
          grant: () => {
            signal.removeEventListener('abort', onAbort)
            resolve()
          },
        }
        const onAbort = (): void => {
          this.#waiters.splice(this.#waiters.indexOf(waiter), 1)
          this.#serve()
          reject(signal.reason)
        }
        signal.addEventListener('abort', onAbort, { once: true })
        this.#waiters.push(waiter)
      })
    } else {
      this.#free -= wanted
    }
    let taken = true
    return () => {
      if (!taken) return
      taken = false
      this.#free += wanted
      this.#serve()
    }
  }

  #serve(): void {
    for (
      let next = this.#waiters[0];
      next !== undefined && next.bytes <= this.#free;
      next = this.#waiters[0]
    ) {
      this.#waiters.shift()
      this.#free -= next.bytes
      next.grant()
    }
  }
}
