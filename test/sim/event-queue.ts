/** Virtual time: things happen in the order of their times, and in the order they were planned when those are equal. */
export interface EventQueue {
  /** The time of the event that is happening, ms. */
  readonly now: number
  /** Plans something in `delay` ms (not negative). */
  after(delay: number, run: () => void): void
  /** Lets everything happen until nothing is planned, or `over` says so. */
  runUntil(over: () => boolean): void
}

/** Where planned events wait; the first of them is looked at in place. */
interface Waiting {
  /** When the first one happens; infinite when there is none. */
  readonly at: number
  /** Its place among those that were planned. */
  readonly order: number
  /** Takes the first one out. */
  take(): () => void
}

/**
 * An empty queue at time 0. What is planned with one of the `usual` delays costs a few steps, since it happens in the order in which
 * it is planned; with other delays it costs the logarithm of how many of those are planned.
 */
export function createEventQueue(usual: readonly number[] = []): EventQueue {
  const lanes = [...new Set(usual)].map(delay => new Lane(delay))
  const heap = new Heap()
  const queues: readonly Waiting[] = [heap, ...lanes]
  let now = 0
  let order = 0

  return {
    get now() {
      return now
    },
    after: (delay, run) => {
      for (const lane of lanes) if (lane.delay === delay) return lane.push(now + delay, order++, run)
      heap.push(now + delay, order++, run)
    },
    runUntil: over => {
      while (!over()) {
        let first: Waiting = heap
        for (const queue of queues) {
          if (queue.at < first.at || (queue.at === first.at && queue.order < first.order)) first = queue
        }
        if (first.at === Number.POSITIVE_INFINITY) return
        now = first.at
        first.take()()
      }
    },
  }
}

const LEAST_ROOM = 1024

/** Events in the order in which they came: a ring that grows. */
class Lane implements Waiting {
  readonly delay: number
  #runs: ((() => void) | undefined)[] = Array.from({ length: LEAST_ROOM })
  #times = new Float64Array(LEAST_ROOM)
  #orders = new Float64Array(LEAST_ROOM)
  #head = 0
  #size = 0
  at = Number.POSITIVE_INFINITY
  order = 0

  constructor(delay: number) {
    this.delay = delay
  }

  push(at: number, order: number, run: () => void): void {
    if (this.#size === this.#runs.length) this.#grow()
    const place = (this.#head + this.#size++) & (this.#runs.length - 1)
    this.#runs[place] = run
    this.#times[place] = at
    this.#orders[place] = order
    if (this.#size === 1) this.#look()
  }

  take(): () => void {
    const run = this.#runs[this.#head]!
    this.#runs[this.#head] = undefined
    this.#head = (this.#head + 1) & (this.#runs.length - 1)
    this.#size--
    this.#look()
    return run
  }

  #look(): void {
    this.at = this.#size === 0 ? Number.POSITIVE_INFINITY : this.#times[this.#head]!
    this.order = this.#orders[this.#head]!
  }

  #grow(): void {
    const [runs, times, orders] = [this.#runs, this.#times, this.#orders]
    const room = runs.length * 2
    this.#runs = Array.from({ length: room })
    this.#times = new Float64Array(room)
    this.#orders = new Float64Array(room)
    for (let i = 0; i < runs.length; i++) {
      const from = (this.#head + i) & (runs.length - 1)
      this.#runs[i] = runs[from]
      this.#times[i] = times[from]!
      this.#orders[i] = orders[from]!
    }
    this.#head = 0
  }
}

/** Events in any order: a binary heap whose times lie side by side. */
class Heap implements Waiting {
  readonly #runs: (() => void)[] = []
  #times = new Float64Array(LEAST_ROOM)
  #orders = new Float64Array(LEAST_ROOM)
  at = Number.POSITIVE_INFINITY
  order = 0

  push(at: number, order: number, run: () => void): void {
    const size = this.#runs.length
    if (size === this.#times.length) this.#grow()
    this.#runs.push(run)
    let hole = size
    while (hole > 0) {
      const parent = (hole - 1) >> 1
      const there = this.#times[parent]!
      if (there < at || (there === at && this.#orders[parent]! < order)) break
      this.#move(parent, hole)
      hole = parent
    }
    this.#put(hole, at, order, run)
    if (hole === 0) this.#look()
  }

  take(): () => void {
    const first = this.#runs[0]!
    const run = this.#runs.pop()!
    const size = this.#runs.length
    if (size > 0) this.#sink(this.#times[size]!, this.#orders[size]!, run)
    this.#look()
    return first
  }

  /** Finds a place for an event, from the top on. */
  #sink(at: number, order: number, run: () => void): void {
    const size = this.#runs.length
    let hole = 0
    for (let child = 1; child < size; child = 2 * hole + 1) {
      if (child + 1 < size && this.#isBefore(child + 1, child)) child++
      const there = this.#times[child]!
      if (there > at || (there === at && this.#orders[child]! > order)) break
      this.#move(child, hole)
      hole = child
    }
    this.#put(hole, at, order, run)
  }

  #isBefore(a: number, b: number): boolean {
    const [atA, atB] = [this.#times[a]!, this.#times[b]!]
    return atA < atB || (atA === atB && this.#orders[a]! < this.#orders[b]!)
  }

  #move(from: number, to: number): void {
    this.#put(to, this.#times[from]!, this.#orders[from]!, this.#runs[from]!)
  }

  #put(place: number, at: number, order: number, run: () => void): void {
    this.#times[place] = at
    this.#orders[place] = order
    this.#runs[place] = run
  }

  #look(): void {
    this.at = this.#runs.length === 0 ? Number.POSITIVE_INFINITY : this.#times[0]!
    this.order = this.#orders[0]!
  }

  #grow(): void {
    const [times, orders] = [this.#times, this.#orders]
    this.#times = new Float64Array(times.length * 2)
    this.#orders = new Float64Array(times.length * 2)
    this.#times.set(times)
    this.#orders.set(orders)
  }
}
