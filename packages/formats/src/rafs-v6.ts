import { type BlobPart, filesBelow, isDirectory, isRegular, MAX_CHUNKS, MAX_INODES } from './rafs-files.ts'
import type { Records } from './records.ts'

// The layout: nydus, rafs/src/metadata/layout/v6.rs. A superblock of EROFS, and after it one of nydus's own.
const SUPER = 1024
const EXTENSION = SUPER + 128
const MAGIC = 0xe0f5e1e2
const BLOB_BYTES = 256
/** Chunk addresses name blobs with 8 bits. */
const MAX_BLOBS = 255
const CHUNK_BYTES = 80
const CHUNK_ADDRESS_BYTES = 8
const SLOT_BYTES = 32
const DIRENT_BYTES = 12
const FLAT_PLAIN = 0
const FLAT_INLINE = 2
const CHUNK_BASED = 4

interface Super {
  readonly blockBytes: number
  readonly metaAt: number
  readonly chunkBytes: number
}

/**
 * The parts of a blob that a RAFS v6 bootstrap asks for first, in order: its own table of chunks, then the chunks of the files
 * that the prefetch table names. Undefined when it is no such file or does not know the blob.
 * @throws {RangeError} when it is malformed.
 */
export function readRafsV6(records: Records, blobId: string): readonly BlobPart[] | undefined {
  if (records.length < EXTENSION + 256 || records.u32(SUPER) !== MAGIC) return undefined
  const blockBits = records.u8(SUPER + 12)
  if (blockBits !== 9 && blockBits !== 12) return undefined
  const blockBytes = 2 ** blockBits
  const about: Super = {
    blockBytes,
    metaAt: records.u32(SUPER + 40) * blockBytes,
    chunkBytes: records.u32(EXTENSION + 20),
  }
  if (about.chunkBytes < 512) return undefined
  const blob = findBlob(records, blobId)
  if (blob === undefined) return undefined
  const named = chunksOf(records, about, readPrefetchTable(records), blob.index)
  return [...blob.table, ...readChunks(records, blob.index, named)]
}

/** The blob's place in the table of blobs, and where in the blob its own table of chunks is, which a client reads first. */
function findBlob(
  records: Records,
  blobId: string,
): { index: number; table: readonly BlobPart[] } | undefined {
  const at = records.u64(EXTENSION + 8)
  const count = Math.min(MAX_BLOBS, Math.floor(records.u32(EXTENSION + 16) / BLOB_BYTES))
  for (let index = 0; index < count; index++) {
    const blob = at + index * BLOB_BYTES
    if (records.text(blob, blob + 64) !== blobId) continue
    const offset = records.u64(blob + 112)
    const length = records.u64(blob + 120)
    // A header of 4 KiB follows the table.
    return { index, table: length > 0 ? [{ offset, length: length + 4096 }] : [] }
  }
  return undefined
}

function readPrefetchTable(records: Records): number[] {
  const at = records.u64(EXTENSION + 40)
  const count = Math.min(MAX_INODES, Math.floor(records.u32(EXTENSION + 48) / 4))
  const inodes: number[] = []
  for (let entry = 0; at > 0 && entry < count; entry++) {
    const inode = records.u32(at + entry * 4)
    // The table is padded with zeroes.
    if (inode === 0) break
    inodes.push(inode)
  }
  return inodes
}

/** The numbers, in the blob's own table, of the chunks of the named files, in order and each once. */
function chunksOf(records: Records, about: Super, named: readonly number[], blobIndex: number): Set<number> {
  const chunks = new Set<number>()
  for (const file of filesBelow(named, inode => childrenOf(records, about, inode))) {
    const inode = readInode(records, about, file)
    if (!isRegular(inode.mode) || inode.layout !== CHUNK_BASED) continue
    const addresses = inode.at + Math.ceil(inode.bodyAt / CHUNK_ADDRESS_BYTES) * CHUNK_ADDRESS_BYTES
    const count = Math.ceil(inode.size / about.chunkBytes)
    for (let index = 0; index < count; index++) {
      if (chunks.size >= MAX_CHUNKS) return chunks
      const address = addresses + index * CHUNK_ADDRESS_BYTES
      const high = records.u16(address + 2)
      // Blob 0 of EROFS is the bootstrap itself.
      if ((high & 0xff) === blobIndex + 1) chunks.add((high >> 8) * 65_536 + records.u16(address))
    }
  }
  return chunks
}

/** Where chunks lie in the blob: what the table of all blobs' chunks says of those that are wanted, in their order. */
function readChunks(records: Records, blobIndex: number, wanted: ReadonlySet<number>): readonly BlobPart[] {
  if (wanted.size === 0) return []
  const at = records.u64(EXTENSION + 24)
  const count = Math.floor(records.u64(EXTENSION + 32) / CHUNK_BYTES)
  if (at + count * CHUNK_BYTES > records.length) return []
  const places = new Map<number, { offset: number; length: number }>()
  for (let index = 0; index < count; index++) {
    const chunk = at + index * CHUNK_BYTES
    if (records.u32(chunk + 32) !== blobIndex) continue
    const number = records.u32(chunk + 72)
    if (wanted.has(number))
      places.set(number, { offset: records.u64(chunk + 48), length: records.u32(chunk + 40) })
  }
  return [...wanted].flatMap(number => places.get(number) ?? [])
}

interface Inode {
  readonly at: number
  readonly mode: number
  readonly layout: number
  /** Bytes of content. */
  readonly size: number
  /** Where what follows the inode and its extended attributes begins, from `at`. */
  readonly bodyAt: number
  readonly union: number
}

function readInode(records: Records, about: Super, nid: number): Inode {
  const at = about.metaAt + nid * SLOT_BYTES
  const format = records.u16(at)
  const extended = (format & 1) === 1
  const attributes = records.u16(at + 2)
  return {
    at,
    mode: records.u16(at + 4),
    layout: (format >> 1) & 7,
    size: extended ? records.u64(at + 8) : records.u32(at + 8),
    bodyAt: (extended ? 64 : 32) + (attributes > 0 ? 12 + (attributes - 1) * 4 : 0),
    union: records.u32(at + 16),
  }
}

function childrenOf(records: Records, about: Super, nid: number): readonly number[] | undefined {
  const inode = readInode(records, about, nid)
  if (!isDirectory(inode.mode)) return undefined
  const found: number[] = []
  const blocks = Math.ceil(inode.size / about.blockBytes)
  for (let block = 0; block < blocks && found.length < MAX_INODES; block++) {
    const inline = inode.layout === FLAT_INLINE && block === blocks - 1
    if (!inline && inode.layout !== FLAT_PLAIN && inode.layout !== FLAT_INLINE) break
    const at = inline ? inode.at + inode.bodyAt : (inode.union + block) * about.blockBytes
    const length = Math.min(about.blockBytes, inode.size - block * about.blockBytes)
    const entries = Math.floor(Math.min(length, records.u16(at + 8)) / DIRENT_BYTES)
    for (let entry = 0; entry < entries; entry++) {
      const dirent = at + entry * DIRENT_BYTES
      const end = entry + 1 < entries ? records.u16(dirent + DIRENT_BYTES + 8) : length
      const name = records.text(at + records.u16(dirent + 8), at + end)
      if (name !== '.' && name !== '..') found.push(records.u64(dirent))
    }
  }
  return found
}
