import type { PreheatedPeer } from '@darter/scheduler'
import { approximateBytes } from '@darter/runtime'
import { MultiBar, type SingleBar } from 'cli-progress'

/** Shows how a preheat goes on at each peer. */
export interface Board {
  /** The peers that changed. */
  update(peers: readonly PreheatedPeer[]): void
  stop(): void
}

/** Where nobody looks. */
export const NO_BOARD: Board = { update: () => {}, stop: () => {} }

/** Peers that get a bar of their own; of the others only the end is told. */
const MAX_BARS = 20

/** A peer as people can tell it from others: the end of its id, and its zone. */
export function peerName({ id, zone }: Pick<PreheatedPeer, 'id' | 'zone'>): string {
  return zone === '' ? id.slice(-8) : `${id.slice(-8)} (${zone.slice(0, 16)})`
}

/** A bar for each peer on a terminal. */
export function createBars(stream: NodeJS.WriteStream): Board {
  const bars = new Map<string, SingleBar>()
  const board = new MultiBar({
    stream,
    format: '{peer} [{bar}] {done} of {all}  {state}',
    barsize: 20,
    hideCursor: true,
    fps: 5,
  })
  return {
    update: peers => {
      for (const peer of peers) {
        const { id, state, held, size } = peer
        const payload = {
          peer: peerName(peer).padEnd(8),
          done: approximateBytes(held),
          all: size === 0 ? '?' : approximateBytes(size),
          state,
        }
        const bar = bars.get(id)
        if (bar !== undefined) {
          bar.setTotal(size)
          bar.update(held, payload)
        } else if (bars.size < MAX_BARS) {
          bars.set(id, board.create(size, held, payload))
        }
      }
    },
    stop: () => board.stop(),
  }
}

/** A line when a peer has begun, each time that it has a tenth more, and when it is through. */
export function createLines(write: (line: string) => void): Board {
  const told = new Map<string, string>()
  return {
    update: peers => {
      for (const peer of peers) {
        const { id, state, held, size } = peer
        const tenth = size === 0 ? 0 : Math.floor((10 * held) / size)
        const news = `${state} ${tenth}`
        if (state === 'asked' || told.get(id) === news) continue
        told.set(id, news)
        const bytes = size === 0 ? '' : ` ${approximateBytes(held)} of ${approximateBytes(size)}`
        write(`${peerName(peer)}: ${state}${bytes}\n`)
      }
    },
    stop: () => {},
  }
}
