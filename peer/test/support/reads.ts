import type { Exchange } from '@darter/exchange'
import { createLogger, createMetrics, seededRandom, systemClock } from '@darter/runtime'
import { type ChunkStore, createMemoryFile } from '@darter/store'
import { createAloneExchange } from '../../src/alone.ts'
import { createFacts } from '../../src/download/facts.ts'
import { LayerHints } from '../../src/download/layer-hints.ts'
import { createDownloadMetrics } from '../../src/download/metrics.ts'
import { PartStore } from '../../src/download/part-store.ts'
import { createReads, type Reads } from '../../src/download/reads.ts'
import { NO_PREFETCH, UNLIMITED } from './rates.ts'

const log = createLogger({ level: 'silent', name: 'test' })

/** What ranges brought, in files that are given or in new ones in memory. */
export async function partStore(
  bytes = 1e9,
  { data, index } = { data: createMemoryFile(), index: createMemoryFile() },
): Promise<PartStore> {
  return await PartStore.open({ data, index, bytes, log })
}

/** Reads over a store, without limits, facts and background; alone unless an exchange is given. */
export async function readsOver(
  store: ChunkStore,
  exchange: Exchange = createAloneExchange(),
  clock = systemClock,
  parts?: PartStore,
): Promise<Reads> {
  return createReads({
    store,
    exchange,
    facts: createFacts({ scheduler: undefined, share: false }),
    clock,
    random: seededRandom(7),
    log,
    metrics: createDownloadMetrics(createMetrics({ prefix: 'test_' })),
    rates: UNLIMITED,
    prefetch: NO_PREFETCH,
    hints: new LayerHints(),
    parts: parts ?? (await partStore()),
    zone: '',
  })
}
