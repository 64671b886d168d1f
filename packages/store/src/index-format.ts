import { createHash } from 'node:crypto'
import { closeSync, constants, openSync, readSync } from 'node:fs'
import type { DatabaseSync } from 'node:sqlite'
import { isDigest } from '@darter/oci'
import type { Logger } from '@darter/runtime'
import { type ChunkLayout, chunkLayout } from '@darter/swarm'
import { blobPath } from './blob-file.ts'
import { StoreVersionError } from './errors.ts'
import { HASH_BYTES } from './hash-table.ts'

const FORMAT = 2
const SCHEMA = `
  CREATE TABLE blobs (
    id INTEGER PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    size INTEGER NOT NULL,
    held_chunks INTEGER NOT NULL,
    held_bytes INTEGER NOT NULL,
    complete INTEGER NOT NULL,
    synced INTEGER NOT NULL,
    last_used INTEGER NOT NULL,
    checked_at INTEGER NOT NULL,
    checked_next INTEGER NOT NULL
  ) STRICT;
  CREATE TABLE chunks (
    blob INTEGER NOT NULL,
    idx INTEGER NOT NULL,
    hash BLOB NOT NULL CHECK (length(hash) = ${HASH_BYTES}),
    PRIMARY KEY (blob, idx)
  ) WITHOUT ROWID, STRICT;
`

/**
 * Makes the tables of a new index, or brings those of an older version to this one, all or nothing.
 * @throws {StoreVersionError} when a newer version wrote it; the system's or SQLite's error when it cannot be done.
 */
export function bringToFormat(db: DatabaseSync, directory: string, log: Logger): void {
  const version = Number(db.prepare('PRAGMA user_version').get()?.user_version)
  if (version === FORMAT) return
  if (version > FORMAT) throw new StoreVersionError(directory, version, FORMAT)
  db.exec('BEGIN IMMEDIATE')
  try {
    if (version === 0) db.exec(SCHEMA)
    else cutHeads(db, directory, log)
    db.exec(`PRAGMA user_version = ${FORMAT}; COMMIT`)
  } catch (error) {
    if (db.isTransaction) db.exec('ROLLBACK')
    throw error
  }
}

/**
 * From format 1, in which every chunk of a blob had the same length: the first one of each large blob becomes its head, if the bytes in
 * the file match the hash that was known of them; else it is not held any more.
 */
function cutHeads(db: DatabaseSync, directory: string, log: Logger): void {
  const firstHash = db.prepare('SELECT hash FROM chunks WHERE blob = ? AND idx = 0')
  const dropFirst = db.prepare('DELETE FROM chunks WHERE blob = ? AND idx = 0')
  // In two steps: no number may be in use twice meanwhile.
  const renumber = db.prepare('UPDATE chunks SET idx = -(idx + ?) WHERE blob = ?')
  const settle = db.prepare('UPDATE chunks SET idx = -idx WHERE blob = ? AND idx < 0')
  const put = db.prepare('INSERT INTO chunks (blob, idx, hash) VALUES (?, ?, ?)')
  const change = db.prepare(`
    UPDATE blobs SET held_chunks = held_chunks + ?, held_bytes = held_bytes - ?, complete = CASE WHEN ? THEN complete ELSE 0 END,
      checked_next = 0
    WHERE id = ?`)
  let cut = 0
  let lost = 0
  for (const { id, digest, size } of db.prepare('SELECT id, digest, size FROM blobs').all()) {
    if (typeof id !== 'number' || typeof digest !== 'string' || !isDigest(digest)) continue
    const layout = chunkLayout(Number(size))
    if (layout.head === 0) continue
    const known = firstHash.get(id)?.hash
    dropFirst.run(id)
    renumber.run(layout.head - 1, id)
    settle.run(id)
    const hashes =
      known instanceof Uint8Array ? hashHead(blobPath(directory, digest), layout, known) : undefined
    for (const [index, hash] of (hashes ?? []).entries()) put.run(id, index, hash)
    const isLost = known !== undefined && hashes === undefined
    const more = hashes === undefined ? (isLost ? -1 : 0) : layout.head - 1
    change.run(more, isLost ? layout.chunkBytes : 0, Number(!isLost), id)
    if (isLost) lost++
    cut++
  }
  db.exec('DELETE FROM blobs WHERE held_chunks = 0 AND complete = 0')
  log.info({ blobs: cut, lost }, 'brought the store to a new format: large blobs begin with smaller chunks')
}

/** The hashes of a head's chunks; undefined when the file cannot be read, or has other bytes than those with this hash. */
function hashHead(path: string, layout: ChunkLayout, known: Uint8Array): Buffer[] | undefined {
  const bytes = Buffer.alloc(layout.chunkBytes)
  try {
    const file = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW)
    try {
      if (readSync(file, bytes, 0, bytes.length, 0) < bytes.length) return undefined
    } finally {
      closeSync(file)
    }
  } catch {
    return undefined
  }
  const sha256 = (part: Buffer): Buffer => createHash('sha256').update(part).digest()
  if (!sha256(bytes).equals(known)) return undefined
  return Array.from({ length: layout.head }, (_, index) =>
    sha256(bytes.subarray(layout.offset(index), layout.offset(index) + layout.length(index))),
  )
}
