import type { Clock } from '@darter/runtime'
import type { CapacityOptions } from './capacity.ts'
import { completeness } from './conformance/completeness.ts'
import { ends } from './conformance/ends.ts'
import { heldChunks } from './conformance/held.ts'
import { room } from './conformance/room.ts'
import { scrubbing } from './conformance/scrub.ts'
import { MIB, type UsingStore } from './conformance/support.ts'
import type { ChunkStore } from './contract.ts'

/** A store under test, and what ends it. */
export interface TestedStore {
  readonly store: ChunkStore
  /** Closes the store and deletes what it left behind. */
  dispose(): Promise<void>
}

/** Makes an empty store. */
export type MakeStore = (options: CapacityOptions & { readonly clock: Clock }) => Promise<TestedStore>

/** What every {@link ChunkStore} promises, as tests for `node:test`. */
export function storeConformance(name: string, makeStore: MakeStore): void {
  const using: UsingStore = async (options, body) => {
    const { store, dispose } = await makeStore({ quotaBytes: 64 * MIB, ...options, clock: tickingClock() })
    try {
      await body(store)
    } finally {
      await dispose()
    }
  }
  heldChunks(name, using)
  completeness(name, using)
  room(name, using)
  ends(name, using)
  scrubbing(name, using)
}

/** A clock whose every look is a millisecond later, so that no two uses are at the same time. */
function tickingClock(): Clock {
  let ticks = 0
  return { now: () => performance.now(), wall: () => 1_700_000_000_000 + ++ticks }
}
