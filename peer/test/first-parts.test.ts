import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { zstdCompressSync } from 'node:zlib'
import type { LayerHint } from '@darter/formats'
import { createLogger, systemClock as clock } from '@darter/runtime'
import { createMemoryStore, type StoredBlob } from '@darter/store'
import { MIN_CHUNK_BYTES, type Run } from '@darter/swarm'
import { until } from '@darter/testing'
import { ByteBudget } from '../src/download/byte-budget.ts'
import { FirstParts } from '../src/download/first-parts.ts'
import { digestOf } from './support/image.ts'

const log = createLogger({ level: 'silent', name: 'test' })
const CHUNKS = 8

/** A blob whose table of contents lies across the chunks 5 and 6, and whose landmark is in the chunk 1. */
async function openLayer() {
  const padding = randomBytes(500).toString('hex')
  const entry = { name: '.prefetch.landmark', type: 'reg', offset: MIN_CHUNK_BYTES + 100 }
  const table = zstdCompressSync(JSON.stringify({ version: 1, padding, entries: [entry] }))
  const bytes = Buffer.alloc(CHUNKS * MIN_CHUNK_BYTES)
  const from = 6 * MIN_CHUNK_BYTES - 100
  bytes.set(table, from)
  const store = createMemoryStore({ quotaBytes: 2 ** 30, clock })
  const content = digestOf(bytes)
  const stored = await store.open(content, bytes.length)
  const hint: LayerHint = { format: 'zstd:chunked', tables: [{ from, to: from + table.length }] }
  return { store, stored, content, bytes, hint }
}

const write = async (stored: StoredBlob, bytes: Buffer, chunk: number): Promise<void> => {
  const { layout } = stored
  const piece = bytes.subarray(layout.offset(chunk), layout.offset(chunk) + layout.length(chunk))
  const hash = createHash('sha256').update(piece).digest()
  assert.equal(await stored.writeChunk(chunk, piece, hash), 'stored')
}

const budget = new ByteBudget(1000)
const refuse = () => Promise.reject(new Error('no other blob is to be read'))

test('names what comes first, and what the chunks that came tell of', async () => {
  const { store, stored, content, bytes, hint } = await openLayer()
  const runs: Run[] = []
  const parts = new FirstParts({
    stored,
    content,
    hint,
    log,
    budget,
    readBlob: refuse,
    onNext: run => void runs.push(run),
  })
  const done = parts.follow(new AbortController().signal)
  await until('the first part is named', () => runs.length === 1)
  for (const chunk of [0, 6, 5]) {
    assert.deepEqual(runs, [{ from: 5, to: 7 }])
    await write(stored, bytes, chunk)
    parts.kept()
  }
  await done
  assert.deepEqual(runs, [
    { from: 5, to: 7 },
    { from: 0, to: 2 },
  ])
  stored.release()
  await store.close()
})

test('ends with its download, and when another blob of the image can’t be read', async () => {
  const { store, stored, content, hint } = await openLayer()
  const runs: Run[] = []
  const options = {
    stored,
    content,
    log,
    budget,
    readBlob: refuse,
    onNext: (run: Run) => void runs.push(run),
  }
  const controller = new AbortController()
  const done = new FirstParts({ ...options, hint }).follow(controller.signal)
  await until('the first part is named', () => runs.length === 1)
  controller.abort()
  await done
  const bootstrap = { digest: digestOf('bootstrap'), size: 9 }
  const nydus = new FirstParts({ ...options, hint: { format: 'nydus', bootstrap } })
  await nydus.follow(new AbortController().signal)
  assert.equal(runs.length, 1)
  assert(nydus.begun)
  stored.release()
  await store.close()
})
