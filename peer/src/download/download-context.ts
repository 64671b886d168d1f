import type { SchedulerLink } from '@darter/exchange'
import type { ChunkBuffers, Clock, Logger } from '@darter/runtime'
import type { Random } from '@darter/swarm'
import type { ByteBudget } from './byte-budget.ts'
import type { DownloadMetrics } from './metrics.ts'
import type { Neighbourhood } from './neighbourhood.ts'
import type { RangeRooms } from './ranges.ts'
import type { DownloadRates } from './rate-limits.ts'

/** What downloads share. */
export interface DownloadContext {
  readonly scheduler: SchedulerLink | undefined
  readonly neighbourhood: Neighbourhood
  /** The zone that this machine is in. */
  readonly zone: string
  readonly budget: ByteBudget
  readonly rates: DownloadRates
  readonly ranges: RangeRooms
  readonly buffers: ChunkBuffers
  readonly clock: Clock
  readonly random: Random
  readonly log: Logger
  readonly metrics: DownloadMetrics
}
