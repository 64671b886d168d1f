import assert from 'node:assert/strict'
import { MIN_CHUNK_BYTES } from '@darter/swarm'
import type { CapacityOptions } from '../capacity.ts'
import type { ChunkStore, ScrubReport, StoredBlob } from '../contract.ts'
import type { SampleBlob } from '../sample-blob.ts'

/** Runs a test with an empty store of its own, which holds at most 64 MiB unless told otherwise. */
export type UsingStore = (
  options: Partial<CapacityOptions>,
  body: (store: ChunkStore) => Promise<void>,
) => Promise<void>

/** Bytes of a MiB. */
export const MIB = 1024 * 1024
/** The chunk size of all sample blobs here. */
export const CHUNK = MIN_CHUNK_BYTES

/** Scrubs all of a store. */
export async function scrub(store: ChunkStore, bytesPerSecond = 1e9): Promise<ScrubReport> {
  return await store.scrub({ bytesPerSecond, signal: new AbortController().signal })
}

/** Opens a blob; its handle is the caller's to release. */
export async function open(store: ChunkStore, sample: SampleBlob): Promise<StoredBlob> {
  return await store.open(sample.digest, sample.layout.size)
}

/** Writes one chunk of a blob. */
export async function put(blob: StoredBlob, sample: SampleBlob, index: number): Promise<'stored' | 'full'> {
  return await blob.writeChunk(index, sample.chunk(index), sample.hash(index))
}

/** Opens a blob and writes all of it; its handle is the caller's to release. */
export async function fill(store: ChunkStore, sample: SampleBlob): Promise<StoredBlob> {
  const blob = await open(store, sample)
  for (let index = 0; index < sample.layout.count; index++) {
    assert.equal(await put(blob, sample, index), 'stored')
  }
  return blob
}

/** Asserts that the whole of a chunk reads as `expected`. */
export async function sameChunk(blob: StoredBlob, index: number, expected: Uint8Array): Promise<void> {
  const bytes = Buffer.alloc(blob.layout.length(index))
  assert.equal(await blob.readChunk(index, 0, bytes), bytes.length)
  sameBytes(bytes, expected)
}

/** Asserts that bytes are equal. Not by deepEqual: it takes minutes to tell how two large buffers differ. */
export function sameBytes(found: Uint8Array, expected: Uint8Array): void {
  assert.ok(Buffer.compare(found, expected) === 0, 'the bytes differ')
}
