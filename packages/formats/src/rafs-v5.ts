import { type BlobPart, filesBelow, isDirectory, isRegular, MAX_CHUNKS, MAX_INODES } from './rafs-files.ts'
import type { Records } from './records.ts'

// The layout: nydus, rafs/src/metadata/layout/v5.rs.
const MAGIC = 0x52414653
const VERSION = 0x500
const SUPER_BYTES = 8192
const INODE_BYTES = 128
const CHUNK_BYTES = 80
const HAS_ATTRIBUTES = 4
const MAX_BLOBS = 4096

/**
 * The parts of a blob that a RAFS v5 bootstrap asks for first, in order: what the table of blobs has to read ahead, then the
 * chunks of the files that the prefetch table names. Undefined when it is no such file or does not know the blob.
 * @throws {RangeError} when it is malformed.
 */
export function readRafsV5(records: Records, blobId: string): readonly BlobPart[] | undefined {
  if (records.length < SUPER_BYTES || records.u32(0) !== MAGIC || records.u32(4) !== VERSION) return undefined
  const blob = findBlob(records, blobId)
  if (blob === undefined) return undefined
  const table = { at: records.u64(32), entries: records.u32(56) }
  /** Throws as `records` does for an inode that is not in the table. */
  const inodeAt = (ino: number): number => {
    if (ino < 1 || ino > table.entries) throw new RangeError(`there is no inode ${ino}`)
    return records.u32(table.at + (ino - 1) * 4) * 8
  }
  const children = (ino: number): readonly number[] | undefined => {
    const at = inodeAt(ino)
    if (!isDirectory(records.u32(at + 60))) return undefined
    const first = records.u32(at + 92)
    const count = Math.min(MAX_INODES, records.u32(at + 96))
    return Array.from({ length: count }, (_, index) => first + index)
  }
  const first: BlobPart[] = [...blob.readAhead]
  for (const ino of filesBelow(readPrefetchTable(records), children)) {
    const at = inodeAt(ino)
    if (!isRegular(records.u32(at + 60))) continue
    const count = records.u32(at + 96)
    const chunks = chunksAt(records, at)
    for (let index = 0; index < count; index++) {
      if (first.length >= MAX_CHUNKS) return first
      const chunk = chunks + index * CHUNK_BYTES
      if (records.u32(chunk + 32) === blob.index)
        first.push({ offset: records.u64(chunk + 48), length: records.u32(chunk + 40) })
    }
  }
  return first
}

/** The chunks of a file follow its inode, its name, and its extended attributes. */
function chunksAt(records: Records, inode: number): number {
  const names = aligned(records.u16(inode + 100)) + aligned(records.u16(inode + 102))
  const after = inode + INODE_BYTES + names
  const hasAttributes = (records.u32(inode + 80) & HAS_ATTRIBUTES) !== 0
  return hasAttributes ? after + 8 + aligned(records.u64(after)) : after
}

const aligned = (bytes: number): number => Math.ceil(bytes / 8) * 8

/** Entries of the table of blobs: what to read ahead (offset and length, 32 bits each), and the name up to a zero. */
function findBlob(
  records: Records,
  blobId: string,
): { index: number; readAhead: readonly BlobPart[] } | undefined {
  let at = records.u64(48)
  const end = at + records.u32(64)
  for (let index = 0; at + 8 < end && index < MAX_BLOBS; index++) {
    const name = records.text(at + 8, Math.min(end, at + 8 + 256))
    if (name === blobId) {
      const length = records.u32(at + 4)
      return { index, readAhead: length > 0 ? [{ offset: records.u32(at), length }] : [] }
    }
    at += 8 + name.length + 1
  }
  return undefined
}

function readPrefetchTable(records: Records): number[] {
  const at = records.u64(40)
  const count = Math.min(MAX_INODES, records.u32(60))
  const inodes: number[] = []
  for (let entry = 0; at > 0 && entry < count; entry++) {
    const inode = records.u32(at + entry * 4)
    if (inode !== 0) inodes.push(inode)
  }
  return inodes
}
