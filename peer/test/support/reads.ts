import type { Exchange } from '@darter/exchange'
import { createLogger, createMetrics, seededRandom, systemClock } from '@darter/runtime'
import { type ChunkStore, createMemoryScratch } from '@darter/store'
import { createAloneExchange } from '../../src/alone.ts'
import { createFacts } from '../../src/download/facts.ts'
import { LayerHints } from '../../src/download/layer-hints.ts'
import { createDownloadMetrics } from '../../src/download/metrics.ts'
import { createReads, type Reads } from '../../src/download/reads.ts'
import { NO_PREFETCH, UNLIMITED } from './rates.ts'

/** Reads over a store, without limits, facts and background; alone unless an exchange is given. */
export function readsOver(
  store: ChunkStore,
  exchange: Exchange = createAloneExchange(),
  clock = systemClock,
): Reads {
  return createReads({
    store,
    exchange,
    facts: createFacts({ scheduler: undefined, share: false }),
    clock,
    random: seededRandom(7),
    log: createLogger({ level: 'silent', name: 'test' }),
    metrics: createDownloadMetrics(createMetrics({ prefix: 'test_' })),
    rates: UNLIMITED,
    prefetch: NO_PREFETCH,
    hints: new LayerHints(),
    scratch: createMemoryScratch(),
    zone: '',
  })
}
