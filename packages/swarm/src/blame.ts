/** What a peer can be blamed for, and what each deed weighs. */
export const DEED_WEIGHTS = {
  'wrong-bytes': 10,
  protocol: 5,
  stalled: 2,
  vanished: 1,
} as const

export type DeedName = keyof typeof DEED_WEIGHTS

/** How blame is kept. */
export interface BlameOptions {
  /** Blame halves in this time, ms. */
  readonly halfLifeMs: number
  /** At this much blame a peer is shunned. */
  readonly shunAt: number
  /** One accuser alone can add at most this much, so that a liar cannot banish others. */
  readonly perAccuser: number
}

export const DEFAULT_BLAME: BlameOptions = { halfLifeMs: 60_000, shunAt: 15, perAccuser: 10 }

const MAX_ACCUSERS = 64

/** Blame by named deed, with decay: for whom to avoid, never as proof. */
export class BlameBook {
  readonly #options: BlameOptions
  readonly #peers = new Map<string, Map<string, { blame: number; at: number }>>()

  constructor(options: BlameOptions = DEFAULT_BLAME) {
    this.#options = options
  }

  add(accused: string, accuser: string, deed: DeedName, now: number): void {
    let accusers = this.#peers.get(accused)
    if (accusers === undefined) this.#peers.set(accused, (accusers = new Map()))
    const before = this.#decayed(accusers.get(accuser), now)
    if (!accusers.has(accuser) && accusers.size >= MAX_ACCUSERS) return
    accusers.set(accuser, { blame: Math.min(this.#options.perAccuser, before + DEED_WEIGHTS[deed]), at: now })
  }

  /** The blame of a peer at this time. */
  of(accused: string, now: number): number {
    let sum = 0
    for (const entry of this.#peers.get(accused)?.values() ?? []) sum += this.#decayed(entry, now)
    return sum
  }

  isShunned(accused: string, now: number): boolean {
    return this.of(accused, now) >= this.#options.shunAt
  }

  /** Forgets what has faded. */
  sweep(now: number): void {
    for (const accused of [...this.#peers.keys()])
      if (this.of(accused, now) < 0.1) this.#peers.delete(accused)
  }

  #decayed(entry: { blame: number; at: number } | undefined, now: number): number {
    return entry === undefined ? 0 : entry.blame * 0.5 ** ((now - entry.at) / this.#options.halfLifeMs)
  }
}
