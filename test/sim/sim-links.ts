import type { EventQueue } from './event-queue.ts'
import type { NewsBoard, Word } from './news.ts'

/** What lies between all simulated peers. */
export interface Network {
  readonly events: EventQueue
  /** Delivers something after the latency, counted as `count` messages. */
  message(deliver: () => void, count?: number): void
  /** What peers were told of chunks and have not taken in. */
  readonly news: NewsBoard
  /** All peers, by their numbers. */
  readonly peers: readonly LinkEnd[]
}

/** Who has links. */
export interface LinkEnd {
  /** Its place among all peers. */
  readonly index: number
  readonly id: string
  readonly gone: boolean
  readonly links: { has(id: string): boolean }
  /** Takes in what neighbours told. Has to come before anything else is done with this peer. */
  catchUp(): void
  /** Does what it has decided. */
  perform(): void
}

/**
 * The links of one simulated peer: who is at their other ends, and what is said over them. It is heard a latency later,
 * unless the other side is gone by then or has given up the link.
 */
export class SimLinks<Peer extends LinkEnd> {
  readonly #network: Network
  /** Whose links they are. */
  readonly #me: LinkEnd
  readonly #others = new Map<string, Peer>()
  /** The numbers of the others; made anew when they change. */
  #numbers: readonly number[] = []

  constructor(network: Network, me: LinkEnd) {
    this.#network = network
    this.#me = me
  }

  get(id: string): Peer | undefined {
    return this.#others.get(id)
  }

  has(id: string): boolean {
    return this.#others.has(id)
  }

  /** The peers at the other ends, the oldest link first. */
  values(): IterableIterator<Peer> {
    return this.#others.values()
  }

  /** This side of a new link. */
  add(other: Peer): void {
    this.#others.set(other.id, other)
    this.#numbers = [...this.#numbers, other.index]
  }

  /** This side gives a link up. */
  remove(other: Peer): void {
    this.#others.delete(other.id)
    this.#numbers = this.#numbers.filter(index => index !== other.index)
  }

  /** Has a neighbour hear something and act on it; nobody hears it when there is no such link. `deliver` gets this peer's id as well. */
  say(id: string, deliver: (other: Peer, me: string) => void): void {
    const other = this.#others.get(id)
    if (other !== undefined) this.#network.message(() => this.#deliver(other, deliver))
  }

  /** The same to all neighbours. */
  sayToAll(deliver: (other: Peer, me: string) => void): void {
    const others = [...this.#others.values()]
    this.#network.message(() => {
      for (const other of others) this.#deliver(other, deliver)
    }, others.length)
  }

  /** Tells all neighbours but one (a number; -1: all of them) something of a chunk, and for how many chunks in all this peer waits. */
  tell(except: number, word: Word, chunk: number, load: number): void {
    const others = this.#numbers
    this.#network.message(() => {
      for (const other of others) if (other !== except) this.post(other, word, chunk, load)
    }, others.length)
  }

  /** Leaves a piece of news for the peer of the number `to`, at once. */
  post(to: number, word: Word, chunk: number, load: number): void {
    const { news, peers, events } = this.#network
    if (news.post(to, this.#me.index, word, chunk, load, events.now)) peers[to]!.catchUp()
  }

  #deliver(other: Peer, deliver: (other: Peer, me: string) => void): void {
    const { id } = this.#me
    if (other.gone || !other.links.has(id)) return
    other.catchUp()
    deliver(other, id)
    other.perform()
  }
}
