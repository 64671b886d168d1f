import type { Exchange } from '@darter/exchange'
import { createLogger, seededRandom, systemClock } from '@darter/runtime'
import type { ChunkStore } from '@darter/store'
import { createNeighbourhood, type Neighbourhood } from '../../src/download/neighbourhood.ts'

/** A neighbourhood that serves what is in a store, and downloads nothing. */
export function neighbourhoodOver(
  store: ChunkStore,
  exchange: Pick<Exchange, 'link' | 'onLink'>,
): Neighbourhood {
  return createNeighbourhood({
    exchange,
    store,
    findDownload: () => undefined,
    downloads: () => [],
    clock: systemClock,
    random: seededRandom(1),
    maxUploads: 1,
    log: createLogger({ level: 'silent', name: 'test' }),
  })
}
