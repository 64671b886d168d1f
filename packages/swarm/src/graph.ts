import type { Random } from './random.ts'
import { RandomSet } from './random-set.ts'

/** What a graph is told of a peer. */
export interface Vertex {
  /** The peer downloads: it gets neighbours up to the degree. */
  readonly wants: boolean
  /** The peer may be another one's neighbour. One that may not gets none either. */
  readonly offers: boolean
  /** Peers of one zone are near each other. */
  readonly zone: string
}

interface Node {
  readonly id: string
  readonly zone: Zone
  readonly edges: Set<Node>
  /** Of these, those that it has not been told of. */
  readonly unheard: Set<Node>
  wants: boolean
  offers: boolean
  /** Edges that leave the zone. */
  crossing: number
}

interface Zone {
  readonly name: string
  members: number
  /** Those who may be neighbours. */
  readonly open: RandomSet<Node>
  readonly wanting: RandomSet<Node>
  /** Those who have too few neighbours. */
  readonly lacking: RandomSet<Node>
  /** Edges that leave the zone. */
  crossing: number
}

/** How long a peer waits for others to choose it before it gets its full degree, and is told what it lost, ms. */
const SETTLE_MS = 500
const RETRY_MS = 1_000
/** Peers that are given neighbours, and peers that are told, for each ms: a crowd costs no more at a time. */
const WORK_PER_MS = 4
/** The part of its neighbours that a peer gets when it comes; the rest may still come by themselves. */
const ATTACHED_PART = 0.25
/** The most time that is made up for when ticks were missed, ms. */
const MAX_TICK_MS = 250
/** Peers that are looked at to find one with few neighbours, and until one is found at all. */
const CANDIDATES = 3
const MAX_TRIES = 16
/** Zones with too few links across that are seen to at a time. */
const ZONES_AT_ONCE = 4

/**
 * The graph of who talks to whom in one swarm: random and nearly regular in each zone, which keeps it connected and its
 * diameter logarithmic while peers come and go, with a few edges across zones. Edges join at least one peer that wants
 * something. Each event costs a number of steps that depends on the degree alone.
 *
 * A peer that comes gets a quarter of its degree at once, of peers chosen at random, and what it lacks half a second later,
 * first of those who lack some too: till then others that come may have chosen it. Who has one and a half times the degree takes no more; one of its edges
 * is split instead.
 */
export class NeighbourGraph {
  readonly #nodes = new Map<string, Node>()
  readonly #zones = new Map<string, Zone>()
  readonly #occupied = new RandomSet<Zone>()
  /** Zones with too few edges across. */
  readonly #short = new RandomSet<Zone>()
  readonly #degree: number
  readonly #most: number
  readonly #crossLinks: number
  readonly #random: Random
  /** Peers that may have too few neighbours, with the time at which that is seen to, in this order. */
  readonly #lacking = new Map<Node, number>()
  readonly #tellNow = new Set<Node>()
  readonly #tellLater = new Map<Node, number>()
  #settledAt = 0

  /**
   * @param degree the neighbours that each wanting peer should have.
   * @param crossLinks the edges across its border that each zone should have, when it has enough peers.
   */
  constructor(degree: number, crossLinks: number, random: Random) {
    this.#degree = degree
    this.#most = Math.ceil(degree * 1.5)
    this.#crossLinks = crossLinks
    this.#random = random
  }

  /** The neighbours of a peer, at most one and a half times the degree. */
  neighbours(peer: string): string[] {
    return [...(this.#nodes.get(peer)?.edges ?? [])].map(node => node.id)
  }

  /** Adds a peer, or takes note of what changed about it. A wanting one is told its neighbours in any case. */
  put(id: string, vertex: Vertex, now: number): void {
    let node = this.#nodes.get(id)
    if (node !== undefined && node.zone.name !== vertex.zone) {
      this.remove(id, now)
      node = undefined
    }
    if (node === undefined) {
      const zone = this.#zone(vertex.zone)
      zone.members++
      node = { id, zone, edges: new Set(), unheard: new Set(), wants: false, offers: false, crossing: 0 }
      this.#nodes.set(id, node)
    }
    const appears = vertex.offers && (!node.offers || (vertex.wants && !node.wants))
    node.wants = vertex.wants
    node.offers = vertex.offers
    this.#list(node)
    for (const other of [...node.edges]) {
      if (!node.offers || !(node.wants || other.wants)) this.#disconnect(node, other, now)
    }
    // It may have been the one to make the link, and does not any more.
    if (!node.wants) for (const other of node.edges) if (other.unheard.has(node)) this.#tellNow.add(other)
    if (appears) this.#introduce(node, now)
    if (node.wants) this.#tellNow.add(node)
    this.#seeTo(node, now + SETTLE_MS)
  }

  /** Takes a peer out. Its neighbours get others soon. */
  remove(id: string, now: number): void {
    const node = this.#nodes.get(id)
    if (node === undefined) return
    node.offers = false
    node.wants = false
    for (const other of [...node.edges]) this.#disconnect(node, other, now)
    this.#list(node)
    this.#nodes.delete(id)
    this.#lacking.delete(node)
    node.zone.lacking.delete(node)
    this.#tellNow.delete(node)
    this.#tellLater.delete(node)
    const { zone } = node
    if (--zone.members === 0) this.#zones.delete(zone.name)
  }

  /** Moves time on: gives peers that lack neighbours others. */
  settle(now: number): void {
    const work = 1 + Math.min(MAX_TICK_MS, Math.max(0, now - this.#settledAt)) * WORK_PER_MS
    this.#settledAt = now
    for (const node of dueUntil(this.#lacking, now, work)) {
      this.#fill(node, this.#degree, now)
      this.#seeTo(node, now + RETRY_MS)
    }
    this.#crossBorders(now)
    for (const node of dueUntil(this.#tellLater, now, work)) this.#tellNow.add(node)
  }

  /**
   * The peers that are to be told their neighbours. Both ends of an edge need not know of it at once: one of them makes
   * the link, and the other learns of it by that.
   */
  takeChanged(): string[] {
    const changed: string[] = []
    for (const node of this.#tellNow) {
      this.#tellLater.delete(node)
      node.unheard.clear()
      if (node.wants) changed.push(node.id)
    }
    this.#tellNow.clear()
    return changed
  }

  #zone(name: string): Zone {
    let zone = this.#zones.get(name)
    if (zone === undefined) {
      zone = {
        name,
        members: 0,
        open: new RandomSet(),
        wanting: new RandomSet(),
        lacking: new RandomSet(),
        crossing: 0,
      }
      this.#zones.set(name, zone)
    }
    return zone
  }

  /** Keeps the sets in which others look for peers. */
  #list(node: Node): void {
    const { zone } = node
    if (node.offers) zone.open.add(node)
    else zone.open.delete(node)
    if (node.offers && node.wants) zone.wanting.add(node)
    else zone.wanting.delete(node)
    if (zone.open.size > 0) this.#occupied.add(zone)
    else this.#occupied.delete(zone)
    this.#judge(zone)
  }

  /** Gives one that has just come its first neighbours. */
  #introduce(node: Node, now: number): void {
    const { open } = node.zone
    if (node.wants) this.#takeOver(node, now)
    if (open.size - 1 <= this.#degree) {
      for (const other of open) if (this.#mayConnect(node, other)) this.#connect(node, other, now)
    } else if (node.wants) {
      this.#attach(node, now)
    }
    this.#crossBorders(now)
  }

  /**
   * The first neighbour may be anyone, also one who has enough: else peers that came together would know each other alone.
   * The others have room: all of what comes later would go to those who came last.
   */
  #attach(node: Node, now: number): void {
    const first = this.#choose(node.zone.open, node, this.#most, 1)
    if (first === undefined) return this.#fill(node, 1, now)
    this.#connect(node, first, now)
    while (node.edges.size - node.crossing < this.#degree * ATTACHED_PART) {
      const other = this.#choose(node.zone.open, node, this.#degree)
      if (other === undefined) return
      this.#connect(node, other, now)
    }
  }

  #localTarget(node: Node): number {
    return node.wants && node.offers ? Math.min(this.#degree, node.zone.open.size - 1) : 0
  }

  /** Edges across that one peer of a zone should have when they are spread evenly. */
  #share(zone: Zone): number {
    return Math.min(this.#degree, Math.ceil(this.#crossLinks / Math.max(1, zone.open.size)))
  }

  #seeTo(node: Node, at: number): void {
    if (node.edges.size - node.crossing < this.#localTarget(node)) {
      if (!this.#lacking.has(node)) this.#lacking.set(node, at)
      node.zone.lacking.add(node)
    } else {
      this.#lacking.delete(node)
      node.zone.lacking.delete(node)
    }
  }

  #fill(node: Node, degree: number, now: number): void {
    const target = Math.min(degree, this.#localTarget(node))
    while (node.edges.size - node.crossing < target && node.edges.size < this.#most) {
      // Those who lack neighbours too come first: else others would end up with more than they need.
      const other = this.#choose(node.zone.lacking, node) ?? this.#choose(node.zone.open, node)
      if (other === undefined) {
        if (!this.#split(node, now)) return
      } else {
        this.#connect(node, other, now)
      }
    }
  }

  #mayConnect(node: Node, other: Node): boolean {
    return (
      node !== other &&
      !node.edges.has(other) &&
      (node.wants || other.wants) &&
      other.edges.size < this.#most &&
      node.edges.size < this.#most
    )
  }

  /** One of a few that were picked at random and have less than `most` neighbours: the one with the fewest. */
  #choose(from: RandomSet<Node>, node: Node, most = this.#most, candidates = CANDIDATES): Node | undefined {
    let best: Node | undefined
    let found = 0
    const consider = (other: Node | undefined): void => {
      if (other === undefined || other.edges.size >= most || !this.#mayConnect(node, other)) return
      found++
      if (best === undefined || other.edges.size < best.edges.size) best = other
    }
    if (from.size <= MAX_TRIES) {
      for (const other of from) consider(other)
      return best
    }
    for (let tries = 0; tries < MAX_TRIES && found < candidates; tries++) {
      consider(from.pickOther(node, this.#random))
    }
    return best
  }

  /** Puts a peer in the middle of an edge of its zone; false when none was found. */
  #split(node: Node, now: number): boolean {
    for (let tries = 0; tries < MAX_TRIES; tries++) {
      const a = node.zone.open.pickOther(node, this.#random)
      if (a === undefined || a.edges.has(node)) continue
      const b = [...a.edges].find(
        other => other.zone === node.zone && other !== node && !other.edges.has(node),
      )
      if (b === undefined || !(node.wants || (a.wants && b.wants))) continue
      this.#disconnect(a, b, now)
      this.#connect(node, a, now)
      if (this.#mayConnect(node, b)) this.#connect(node, b, now)
      return true
    }
    return false
  }

  /** One that comes takes edges across over from those of its zone that have more than their share. */
  #takeOver(node: Node, now: number): void {
    const share = this.#share(node.zone)
    for (let tries = 0; tries < MAX_TRIES && node.crossing < share; tries++) {
      if (node.edges.size >= this.#most) return
      const loaded = node.zone.wanting.pickOther(node, this.#random)
      if (loaded === undefined) return
      if (loaded.crossing <= share) continue
      const beyond = [...loaded.edges].find(other => other.zone !== node.zone && !other.edges.has(node))
      if (beyond === undefined) continue
      this.#disconnect(loaded, beyond, now)
      this.#connect(node, beyond, now)
    }
  }

  /** Whether a zone has too few edges across. */
  #judge(zone: Zone): void {
    const needed = Math.min(this.#crossLinks, zone.wanting.size * this.#share(zone))
    if (zone.crossing < needed) this.#short.add(zone)
    else this.#short.delete(zone)
  }

  #crossBorders(now: number): void {
    if (this.#occupied.size < 2) return
    for (let i = Math.min(ZONES_AT_ONCE, this.#short.size); i > 0; i--) {
      const zone = this.#short.pick(this.#random)
      if (zone === undefined) return
      let failures = 0
      while (this.#short.has(zone) && failures < CANDIDATES) if (!this.#cross(zone, now)) failures++
    }
  }

  #cross(zone: Zone, now: number): boolean {
    const there = this.#occupied.pickOther(zone, this.#random)
    const here = this.#leastCrossing(zone.wanting)
    if (there === undefined || there === zone || here === undefined) return false
    const other = this.#choose(there.open, here)
    if (other === undefined) return false
    this.#connect(here, other, now)
    return true
  }

  #leastCrossing(from: RandomSet<Node>): Node | undefined {
    let best: Node | undefined
    for (let i = 0; i < CANDIDATES; i++) {
      const node = from.pick(this.#random)
      if (node !== undefined && (best === undefined || node.crossing < best.crossing)) best = node
    }
    return best
  }

  /** `node` is the one that is told, and makes the link, if it wants something. */
  #connect(node: Node, other: Node, now: number): void {
    node.edges.add(other)
    other.edges.add(node)
    node.unheard.add(other)
    other.unheard.add(node)
    this.#countCrossing(node, other, 1)
    if (node.wants) this.#tellNow.add(node)
    if (other.wants && (!node.wants || other.edges.size <= this.#degree / 2)) this.#tellNow.add(other)
    this.#seeTo(other, now + SETTLE_MS)
  }

  #disconnect(a: Node, b: Node, now: number): void {
    a.edges.delete(b)
    b.edges.delete(a)
    a.unheard.delete(b)
    b.unheard.delete(a)
    this.#countCrossing(a, b, -1)
    for (const node of [a, b]) {
      if (node.wants && node.edges.size < this.#degree / 2) this.#tellNow.add(node)
      else if (node.wants && !this.#tellLater.has(node)) this.#tellLater.set(node, now + RETRY_MS)
      this.#seeTo(node, now + SETTLE_MS)
    }
  }

  #countCrossing(a: Node, b: Node, by: 1 | -1): void {
    if (a.zone === b.zone) return
    for (const node of [a, b]) {
      node.crossing += by
      node.zone.crossing += by
      this.#judge(node.zone)
    }
  }
}

/** Takes out what is due, at most `most`. The times in the map ascend, or nearly so. */
function dueUntil(times: Map<Node, number>, now: number, most: number): Node[] {
  const due: Node[] = []
  for (const [node, at] of times) {
    if (at > now || due.length >= most) break
    due.push(node)
  }
  for (const node of due) times.delete(node)
  return due
}
