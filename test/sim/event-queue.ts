/** Virtual time: things happen in the order of their times, and in the order they were planned when those are equal. */
export interface EventQueue {
  /** The time of the event that is happening, ms. */
  readonly now: number
  /** Plans something in `delay` ms (not negative). */
  after(delay: number, run: () => void): void
  /** Lets everything happen until nothing is planned, or `over` says so. */
  runUntil(over: () => boolean): void
}

interface Planned {
  readonly at: number
  readonly order: number
  readonly run: () => void
}

/** An empty queue at time 0: a binary heap, so that planning and taking cost the logarithm of what is planned. */
export function createEventQueue(): EventQueue {
  const heap: Planned[] = []
  let now = 0
  let order = 0

  const before = (a: Planned, b: Planned): boolean => a.at < b.at || (a.at === b.at && a.order < b.order)

  const push = (event: Planned): void => {
    let hole = heap.length
    heap.push(event)
    while (hole > 0) {
      const parent = (hole - 1) >> 1
      if (!before(event, heap[parent]!)) break
      heap[hole] = heap[parent]!
      hole = parent
    }
    heap[hole] = event
  }

  const pop = (): Planned | undefined => {
    const first = heap[0]
    const moved = heap.pop()
    if (first === undefined || moved === undefined || heap.length === 0) return first
    let hole = 0
    for (;;) {
      let child = 2 * hole + 1
      if (child >= heap.length) break
      if (child + 1 < heap.length && before(heap[child + 1]!, heap[child]!)) child++
      if (!before(heap[child]!, moved)) break
      heap[hole] = heap[child]!
      hole = child
    }
    heap[hole] = moved
    return first
  }

  return {
    get now() {
      return now
    },
    after: (delay, run) => push({ at: now + delay, order: order++, run }),
    runUntil: over => {
      while (!over()) {
        const event = pop()
        if (event === undefined) return
        now = event.at
        event.run()
      }
    },
  }
}
