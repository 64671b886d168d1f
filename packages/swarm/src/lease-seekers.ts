import type { Random } from './random.ts'
import { RandomSet } from './random-set.ts'

interface Seeker {
  readonly zone: ZoneSeekers
  leases: number
}

interface ZoneSeekers {
  readonly name: string
  /** By the number of leases that they have. */
  readonly byLeases: RandomSet<string>[]
  seeking: number
}

/** Zones whose counts are kept. */
const MAX_COUNTS = 1024

/**
 * Who asks for a lease, by zone and by how many it has: the next one goes to the zone that had the fewest so far, there to
 * a peer that has the fewest now. What the origin sends is so spread over many peers' links, and enters every zone.
 */
export class LeaseSeekers {
  readonly #seekers = new Map<string, Seeker>()
  readonly #zones = new Map<string, ZoneSeekers>()
  /** Leases that each zone has had. */
  readonly #granted = new Map<string, number>()
  readonly #random: Random

  constructor(random: Random) {
    this.#random = random
  }

  get size(): number {
    return this.#seekers.size
  }

  /** A peer seeks a lease; it has `leases` now. */
  add(peer: string, zone: string, leases: number): void {
    const known = this.#seekers.get(peer)
    if (known !== undefined) {
      if (known.leases === leases && known.zone.name === zone) return
      this.remove(peer)
    }
    let seekers = this.#zones.get(zone)
    if (seekers === undefined) {
      seekers = { name: zone, byLeases: [], seeking: 0 }
      this.#zones.set(zone, seekers)
    }
    while (seekers.byLeases.length <= leases) seekers.byLeases.push(new RandomSet())
    seekers.byLeases[leases]!.add(peer)
    seekers.seeking++
    this.#seekers.set(peer, { zone: seekers, leases })
  }

  /** A peer seeks none (any more). */
  remove(peer: string): void {
    const seeker = this.#seekers.get(peer)
    if (seeker === undefined) return
    this.#seekers.delete(peer)
    const { zone } = seeker
    zone.byLeases[seeker.leases]!.delete(peer)
    if (--zone.seeking === 0) this.#zones.delete(zone.name)
  }

  /** The peer that gets the next lease, of those that have fewer than `cap`. */
  next(cap: number): string | undefined {
    let chosen: RandomSet<string> | undefined
    let fewest = Number.POSITIVE_INFINITY
    let ties = 0
    for (const zone of this.#zones.values()) {
      const granted = this.#granted.get(zone.name) ?? 0
      if (granted > fewest) continue
      const ready = zone.byLeases.find((peers, leases) => leases < cap && peers.size > 0)
      if (ready === undefined) continue
      if (granted < fewest) {
        fewest = granted
        ties = 0
      }
      if (this.#random() * ++ties < 1) chosen = ready
    }
    return chosen?.pick(this.#random)
  }

  /** Takes note of a lease for someone of this zone. */
  granted(zone: string): void {
    if (this.#granted.size >= MAX_COUNTS && !this.#granted.has(zone)) this.#granted.clear()
    this.#granted.set(zone, (this.#granted.get(zone) ?? 0) + 1)
  }
}
