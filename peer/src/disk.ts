import { statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { type Component, delay, type Logger, type Metrics, systemClock } from '@darter/runtime'
import { type ChunkStore, createDiskStore } from '@darter/store'
import type { StoreConfig } from './config.ts'

const SCRUB_PAUSE_MS = 60_000

/** The store as it is configured, with its metrics. */
export async function openStore(config: StoreConfig, log: Logger, metrics: Metrics): Promise<ChunkStore> {
  const store = await createDiskStore({
    directory: config.dir,
    quotaBytes: 'bytes' in config.quota ? config.quota.bytes : await diskShare(config),
    highWatermark: config.highWatermark,
    lowWatermark: config.lowWatermark,
    verify: config.verify,
    clock: systemClock,
    log,
  })
  metrics.gauge({
    name: 'store_bytes',
    help: 'Bytes of chunk data held.',
    collect: gauge => gauge.set(store.usage().bytes),
  })
  metrics.gauge({
    name: 'store_blobs',
    help: 'Blobs held, complete or not.',
    collect: gauge => gauge.set(store.usage().blobs),
  })
  return store
}

/** Checks what is held in the background, again and again; never at 0 bytes per second. */
export function createScrubber(store: ChunkStore, bytesPerSecond: number, log: Logger): Component {
  const stopping = new AbortController()
  let running: Promise<void> = Promise.resolve()
  const run = async (): Promise<void> => {
    while (bytesPerSecond > 0) {
      await delay(SCRUB_PAUSE_MS, stopping.signal)
      const report = await store.scrub({ bytesPerSecond, signal: stopping.signal })
      if (report.dropped > 0) log.warn(report, 'stored chunks were damaged and dropped')
    }
  }
  return {
    name: 'scrubber',
    start: async () => {
      running = run().catch(error => {
        if (!stopping.signal.aborted) log.error({ err: error }, 'checking stored chunks ended')
      })
    },
    stop: async () => {
      stopping.abort()
      await running
    },
  }
}

/** The configured fraction of the file system that the store lies on, in bytes. */
async function diskShare({ dir, quota }: StoreConfig): Promise<number> {
  if ('bytes' in quota) return quota.bytes
  // The directory may not exist yet; one of those above it does.
  for (let at = dir; ; at = join(at, '..')) {
    try {
      const { blocks, bsize } = await statfs(at)
      return Math.floor(blocks * bsize * quota.diskFraction)
    } catch (error) {
      if (at === join(at, '..')) throw error
    }
  }
}
