import type { SchedulerLink } from '@darter/exchange'
import type { ChunkBuffers, Clock, Logger } from '@darter/runtime'
import type { Random } from '@darter/swarm'
import type { ByteBudget } from './byte-budget.ts'
import type { DownloadMetrics } from './metrics.ts'
import type { Neighbourhood } from './neighbourhood.ts'
import type { DownloadRates } from './rate-limits.ts'

/** What downloads share. */
export interface DownloadContext {
  readonly scheduler: SchedulerLink | undefined
  readonly neighbourhood: Neighbourhood
  /** The zone that this machine is in. */
  readonly zone: string
  readonly budget: ByteBudget
  readonly rates: DownloadRates
  readonly buffers: ChunkBuffers
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  readonly metrics: DownloadMetrics
}

/** Where a reader's chunk was found. */
export type ChunkProvenance = 'disk' | 'peer' | 'origin'

/** One caller's part in a download. */
export interface DownloadReader {
  /**
   * Resolves when the chunk may be passed on: 'ready', or 'pass-through' when this machine can keep no more and the
   * caller has to be served straight from the origin. Rejects when the download failed, or the signal aborts.
   */
  wait(chunk: number, signal: AbortSignal): Promise<'ready' | 'pass-through'>
  /** Set when chunks that this reader has passed on were proved wrong: its response can only be cut. */
  failure(): Error | undefined
  /** The blob's digest was right: whatever is still held of it may be believed. */
  settled(): boolean
  /** Where a ready chunk came from. */
  provenance(chunk: number): ChunkProvenance
  /** The caller is gone or has everything. */
  end(): void
}
