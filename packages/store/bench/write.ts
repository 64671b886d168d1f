/**
 * What the disk store costs: `node write.ts [directory]` writes, completes, reads back and scrubs 1 GiB per chunk size, in
 * the given directory (default: the temporary one), and prints seconds and CPU seconds (user + system) of this process.
 * The first line of each size is the floor: the same bytes to a bare sparse file.
 */
import { createHash, randomBytes } from 'node:crypto'
import { mkdtemp, open, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseDigest } from '@darter/oci'
import { createLogger, systemClock } from '@darter/runtime'
import { createDiskStore } from '../src/disk-store.ts'

const MIB = 1024 * 1024
const TOTAL = 1024 * MIB
const WRITERS = 4

async function measure(what: string, run: () => Promise<void>): Promise<void> {
  const cpu = process.cpuUsage()
  const started = performance.now()
  await run()
  const { user, system } = process.cpuUsage(cpu)
  const seconds = ((performance.now() - started) / 1000).toFixed(2)
  process.stdout.write(`${what.padEnd(44)} ${seconds} s  CPU ${((user + system) / 1e6).toFixed(2)} s\n`)
}

/** Runs `one` for each of `count` indices, a few at a time, as a download does. */
async function each(count: number, one: (index: number) => Promise<unknown>): Promise<void> {
  let next = 0
  const worker = async (): Promise<void> => {
    while (next < count) await one(next++)
  }
  await Promise.all(Array.from({ length: WRITERS }, worker))
}

const base = await mkdtemp(join(process.argv[2] ?? tmpdir(), 'darter-bench-'))
try {
  // The layout has chunks of 256 KiB to 4 MiB: these sizes make blobs of chunks of 1, 2 and 4 MiB.
  for (const [chunkMiB, blobMiB] of [
    [0.25, 128],
    [1, 512],
    [2, 1024],
    [4, 2048],
  ] as const) {
    const blobs = Math.max(1, TOTAL / MIB / blobMiB)
    const perBlob = Math.min(TOTAL, blobMiB * MIB) / (chunkMiB * MIB)
    const bytes = randomBytes(chunkMiB * MIB)
    const hash = createHash('sha256').update(bytes).digest()
    const label = `${blobs * perBlob} chunks of ${chunkMiB} MiB:`

    const bare = await open(join(base, 'bare'), 'w+')
    await measure(`${label} bare file`, async () => {
      await bare.truncate(TOTAL)
      await each(TOTAL / bytes.length, index => bare.write(bytes, 0, bytes.length, index * bytes.length))
      await bare.datasync()
    })
    await bare.close()
    await rm(join(base, 'bare'))

    const directory = join(base, String(chunkMiB))
    const log = createLogger({ level: 'error', name: 'bench' })
    const options = { directory, quotaBytes: 4 * TOTAL, clock: systemClock, log }
    const store = await createDiskStore(options)
    const digests = Array.from({ length: blobs }, () =>
      parseDigest(`sha256:${randomBytes(32).toString('hex')}`),
    )
    await measure(`${label} write and sync`, async () => {
      for (const digest of digests) {
        const blob = await store.open(digest, blobMiB * MIB)
        await each(perBlob, index => blob.writeChunk(index, bytes, hash))
        if (blob.held.count === blob.held.length) await blob.markComplete('digest')
        blob.release()
      }
    })
    await store.close()

    const again = await createDiskStore(options)
    const read = async (): Promise<void> => {
      const piece = Buffer.alloc(256 * 1024)
      for (const digest of digests) {
        const blob = await again.find(digest)
        for (let index = 0; index < perBlob; index++) {
          for (let at = 0; at < bytes.length; at += piece.length) await blob?.readChunk(index, at, piece)
        }
        blob?.release()
      }
    }
    await measure(`${label} first read, 256 KiB at a time`, read)
    await measure(`${label} second read`, read)
    const { signal } = new AbortController()
    await measure(`${label} scrub`, async () => {
      await again.scrub({ bytesPerSecond: 1e12, signal })
    })
    await again.close()
    await rm(directory, { recursive: true })
  }
} finally {
  await rm(base, { recursive: true })
}
