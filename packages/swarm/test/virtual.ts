import { createHash } from 'node:crypto'
import {
  Bitfield,
  BlobSwarm,
  chunkLayout,
  DownloadSession,
  type Random,
  type SwarmShape,
} from '../src/index.ts'

/** A seeded generator (mulberry32). */
export function seeded(seed: number): Random {
  let a = seed >>> 0
  return () => {
    a = (a + 0x6d2b79f5) | 0
    let t = Math.imul(a ^ (a >>> 15), 1 | a)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

const right = (chunk: number): Uint8Array => createHash('sha256').update(`right ${chunk}`).digest()
const wrong = (chunk: number): Uint8Array => createHash('sha256').update(`wrong ${chunk}`).digest()

export interface VirtualOptions {
  readonly peers: number
  readonly blobBytes: number
  readonly seed: number
  readonly shape?: SwarmShape
  /** Peers that send wrong bytes, though they tell the right hashes. */
  readonly liars?: readonly number[]
  /** Peers that leave at a time, ms. */
  readonly leave?: ReadonlyMap<number, number>
  /** The scheduler is silent from this time on, ms. */
  readonly schedulerDiesAt?: number
  readonly stopAt?: number
  /** The origin fails while this says so. */
  readonly originFails?: (now: number) => boolean
}

export interface VirtualResult {
  readonly doneAt: (number | undefined)[]
  readonly gaveUp: boolean[]
  readonly originChunks: number
  readonly originRequests: number
  readonly blamed: Set<string>
}

const CHUNK_MS = 20
const LATENCY_MS = 2

/** Runs sessions against one another and a swarm in virtual time: every chunk takes 20 ms from wherever it comes. */
export function runVirtual(options: VirtualOptions): VirtualResult {
  const random = seeded(options.seed)
  const layout = chunkLayout(options.blobBytes)
  const queue: { at: number; order: number; run: () => void }[] = []
  let now = 0
  let order = 0
  const at = (delay: number, run: () => void): void => {
    queue.push({ at: now + delay, order: order++, run })
  }
  const swarm = new BlobSwarm(layout, random, options.shape)
  const result: VirtualResult & { originChunks: number; originRequests: number } = {
    doneAt: Array.from({ length: options.peers }, () => undefined),
    gaveUp: Array.from({ length: options.peers }, () => false),
    originChunks: 0,
    originRequests: 0,
    blamed: new Set(),
  }
  let schedulerUp = true
  const peers = Array.from({ length: options.peers }, (_, index) => {
    const held = new Bitfield(layout.count)
    return {
      id: `p${index}`,
      index,
      held,
      gone: false,
      uploadFreeAt: 0,
      links: new Set<string>(),
      fetches: new Set<number>(),
      requests: new Set<string>(),
      session: new DownloadSession({
        layout,
        held,
        trusted: new Bitfield(layout.count),
        random,
        now: 0,
        schedulerUp: true,
      }),
    }
  })
  type VirtualPeer = (typeof peers)[number]
  const byId = new Map(peers.map(peer => [peer.id, peer]))
  const toScheduler = (act: () => void): void =>
    at(LATENCY_MS, () => {
      if (!schedulerUp) return
      act()
      flushSwarm()
    })

  const stored = (peer: VirtualPeer, chunk: number, from: string | undefined): void => {
    peer.held.set(chunk)
    peer.session.chunkStored(
      chunk,
      from === undefined ? { kind: 'origin' } : { kind: 'neighbour', id: from },
      now,
    )
    for (const other of peer.links) {
      at(LATENCY_MS, () => {
        const neighbour = byId.get(other)!
        neighbour.session.neighbourHas(peer.id, chunk, right(chunk))
        neighbour.session.neighboursChanged(now)
        flush(neighbour)
      })
    }
    toScheduler(() => swarm.held(peer.id, [chunk], now))
    if (peer.session.complete && result.doneAt[peer.index] === undefined) result.doneAt[peer.index] = now
  }

  const link = (a: VirtualPeer, b: VirtualPeer): void => {
    if (a.gone || b.gone || a.links.has(b.id)) return
    for (const [me, other] of [
      [a, b],
      [b, a],
    ] as const) {
      me.links.add(other.id)
      me.session.neighbourUp(other.id)
      for (const chunk of other.held.indices()) me.session.neighbourHas(other.id, chunk, right(chunk))
      me.session.neighboursChanged(now)
      flush(me)
    }
  }

  const readOrigin = (peer: VirtualPeer, fetch: number, chunk: number, to: number): void => {
    at(CHUNK_MS, () => {
      if (peer.gone || !peer.fetches.has(fetch)) return
      if (options.originFails?.(now) === true) {
        peer.fetches.delete(fetch)
        peer.session.fetchEnded(fetch, { refused: false }, now)
      } else {
        result.originChunks++
        if (peer.session.chunkFromOrigin(chunk, right(chunk), now) === 'keep') stored(peer, chunk, undefined)
        if (chunk + 1 < to) readOrigin(peer, fetch, chunk + 1, to)
        else {
          peer.fetches.delete(fetch)
          peer.session.fetchEnded(fetch, undefined, now)
        }
      }
      flush(peer)
    })
  }

  const flush = (peer: VirtualPeer): void => {
    if (peer.gone) return
    for (const effect of peer.session.takeEffects()) {
      switch (effect.type) {
        case 'request': {
          const source = byId.get(effect.neighbour)!
          const key = `${effect.neighbour} ${effect.chunk}`
          peer.requests.add(key)
          source.uploadFreeAt = Math.max(now + LATENCY_MS, source.uploadFreeAt) + CHUNK_MS / 4
          at(source.uploadFreeAt - now + LATENCY_MS, () => {
            if (peer.gone || source.gone || !peer.requests.delete(key)) return
            const lies = options.liars?.includes(source.index) === true
            const hash = lies ? wrong(effect.chunk) : right(effect.chunk)
            if (peer.session.chunkFromNeighbour(source.id, effect.chunk, hash, now) === 'keep') {
              stored(peer, effect.chunk, source.id)
            }
            flush(peer)
          })
          break
        }
        case 'cancel':
          peer.requests.delete(`${effect.neighbour} ${effect.chunk}`)
          break
        case 'fetch-origin':
          result.originRequests++
          peer.fetches.add(effect.fetch)
          readOrigin(peer, effect.fetch, effect.from, effect.to)
          break
        case 'stop-origin':
          peer.fetches.delete(effect.fetch)
          break
        case 'lease-demand':
          toScheduler(() => swarm.leaseDemand(peer.id, effect.slots, effect.from, now))
          break
        case 'lease-end':
          toScheduler(() => swarm.leaseEnd(peer.id, effect.lease, effect.outcome, effect, now))
          break
        case 'blame':
          result.blamed.add(effect.neighbour)
          break
        case 'give-up':
          result.gaveUp[peer.index] = true
          break
      }
    }
  }

  const flushSwarm = (): void => {
    for (const effect of swarm.takeEffects()) {
      const peer = byId.get(effect.to)!
      at(LATENCY_MS, () => {
        if (peer.gone) return
        if (effect.type === 'neighbours') {
          peer.session.schedulerAnswered(now)
          for (const other of effect.peers) link(peer, byId.get(other)!)
        } else if (effect.type === 'lease')
          peer.session.leased(effect.lease, effect.from, effect.toChunk, now)
        else if (effect.type === 'lease-void') peer.session.leaseVoid(effect.lease, now)
        flush(peer)
      })
    }
  }

  for (const peer of peers) {
    peer.session.readerAdded(1, 0, layout.count, false, 0)
    toScheduler(() => swarm.join(peer.id, peer.held.toBytes(), true, now))
    flush(peer)
    const leaves = options.leave?.get(peer.index)
    if (leaves !== undefined) {
      at(leaves, () => {
        peer.gone = true
        for (const other of peer.links) {
          const neighbour = byId.get(other)!
          neighbour.links.delete(peer.id)
          neighbour.session.neighbourDown(peer.id, 'vanished', now)
          flush(neighbour)
        }
        toScheduler(() => swarm.leave(peer.id, now))
      })
    }
  }
  if (options.schedulerDiesAt !== undefined) {
    at(options.schedulerDiesAt, () => {
      schedulerUp = false
      for (const peer of peers) {
        peer.session.schedulerChanged(false, now)
        flush(peer)
      }
    })
  }
  const tick = (): void => {
    if (schedulerUp) swarm.tick(now)
    flushSwarm()
    for (const peer of peers) {
      if (peer.gone) continue
      // Reads in order as far as it can, as a client would.
      peer.session.readerMoved(1, peer.held.nextClear(0))
      peer.session.tick(now)
      flush(peer)
    }
    const open = peers.some(
      peer => !peer.gone && !peer.session.complete && result.gaveUp[peer.index] === false,
    )
    if (open && now < (options.stopAt ?? 120_000)) at(50, tick)
  }
  at(0, tick)

  while (queue.length > 0) {
    let next = 0
    for (let i = 1; i < queue.length; i++) {
      const a = queue[i]!
      const b = queue[next]!
      if (a.at < b.at || (a.at === b.at && a.order < b.order)) next = i
    }
    const event = queue[next]!
    queue[next] = queue.at(-1)!
    queue.pop()
    now = event.at
    event.run()
  }
  return result
}
