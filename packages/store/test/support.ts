import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createLogger, systemClock } from '@darter/runtime'
import { MIN_CHUNK_BYTES } from '@darter/swarm'
import type { ChunkStore } from '../src/contract.ts'
import { createDiskStore, type DiskStoreOptions } from '../src/disk-store.ts'
import type { SampleBlob } from '../src/sample-blob.ts'

/** A chunk of every sample blob here. */
export const CHUNK = MIN_CHUNK_BYTES

export const silent = createLogger({ level: 'silent', name: 'test' })

/** Runs `body` with an empty directory that is gone afterwards. */
export async function withDirectory(body: (directory: string) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'darter-store-'))
  try {
    await body(directory)
  } finally {
    await rm(directory, { recursive: true })
  }
}

/** Opens the disk store in `directory` with a large quota. */
export async function diskStore(
  directory: string,
  options: Partial<DiskStoreOptions> = {},
): Promise<ChunkStore> {
  return await createDiskStore({
    directory,
    quotaBytes: 2 ** 30,
    clock: systemClock,
    log: silent,
    ...options,
  })
}

/** Writes chunks (all by default) of a sample and lets go of it. */
export async function keep(store: ChunkStore, sample: SampleBlob, chunks?: readonly number[]): Promise<void> {
  const blob = await store.open(sample.digest, sample.layout.size)
  for (const index of chunks ?? Array.from({ length: sample.layout.count }, (_, i) => i)) {
    if ((await blob.writeChunk(index, sample.chunk(index), sample.hash(index))) !== 'stored') {
      throw new Error(`no room for chunk ${index}`)
    }
  }
  if (chunks === undefined) await blob.markComplete('digest')
  blob.release()
}
