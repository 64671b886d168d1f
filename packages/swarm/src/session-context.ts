import type { Belief } from './belief.ts'
import type { ReadonlyBitfield } from './bitfield.ts'
import type { ChunkLayout } from './layout.ts'
import type { PendingChunks } from './pending.ts'
import type { Random } from './random.ts'
import type { ReaderSet } from './readers.ts'
import type { SessionEffect, SessionLimits } from './session-contract.ts'
import type { Wanted } from './wanted.ts'

/** What the parts of one download session share. */
export interface SessionContext {
  readonly layout: ChunkLayout
  /** The chunks in the store, live. */
  readonly held: ReadonlyBitfield
  readonly pending: PendingChunks
  readonly readers: ReaderSet
  readonly belief: Belief
  readonly wanted: Wanted
  readonly random: Random
  readonly limits: SessionLimits
  readonly emit: (effect: SessionEffect) => void
}
