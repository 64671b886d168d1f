import { renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync, type StatementSync } from 'node:sqlite'
import { type Digest, isDigest } from '@darter/oci'
import type { Logger } from '@darter/runtime'
import { MAX_BLOB_BYTES } from '@darter/swarm'
import { systemCode } from './blob-file.ts'
import type { BlobProof } from './contract.ts'
import { StoreIoError, StoreVersionError } from './errors.ts'
import { HASH_BYTES } from './hash-table.ts'
import { createPrivateFile, isCorrupt, isFull } from './sqlite.ts'

/** What the index keeps of a blob. It reads the values when it writes them, so they are always consistent. */
export interface IndexedBlob {
  /** The index's own key; never used again for another blob while the process runs. */
  readonly id: number
  readonly digest: Digest
  readonly size: number
  readonly heldChunks: number
  readonly heldBytes: number
  /** Why the blob counts as complete; undefined when it does not. */
  readonly proof: BlobProof | undefined
  /** Everything held is surely on the disk. What is held of another blob is in doubt after an unclean stop. */
  readonly synced: boolean
  /** Milliseconds since the Unix epoch. */
  readonly lastUsed: number
  /** When a scrub last got to the blob's end, milliseconds since the Unix epoch; 0 for never. */
  readonly checkedAt: number
  /** The chunk at which the next scrub goes on. */
  readonly checkedNext: number
}

/** A held chunk: its index and its sha256. */
export type IndexedChunk = readonly [index: number, hash: Uint8Array]

/** How late a change may reach the index, ms. */
const BATCH_MS = 200
/** How many changes of chunks are written at once at the latest. */
const BATCH_CHUNKS = 64
/** How long to wait after a failed write, ms. */
const RETRY_MS = 2000
/** How many chunks are read at once, so that a huge blob doesn't hold up the event loop. */
const PAGE_CHUNKS = 2048

/** What the column `complete` holds. Earlier versions take a `list` for a blob that they have to settle themselves. */
const PROOFS = { digest: 1, list: 2 } as const
const INCOMPLETE = 0

const FORMAT = 1
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
  PRAGMA user_version = ${FORMAT};
`

/**
 * The index of a disk store: an SQLite database with a row for each blob and each held chunk. Changes are queued and
 * written together, in one transaction, at most {@link BATCH_MS} late.
 */
export class ChunkIndex {
  #db: DatabaseSync
  #log: Logger
  #statements: Statements
  #removed = new Set<number>()
  #changed = new Map<number, IndexedBlob>()
  #chunks = new Map<number, Map<number, Uint8Array | undefined>>()
  #pendingChunks = 0
  #timer: NodeJS.Timeout | undefined
  #health: 'well' | 'full' | 'failing' = 'well'

  constructor(db: DatabaseSync, log: Logger) {
    this.#db = db
    this.#log = log
    this.#statements = prepare(db)
  }

  /** Every blob that was written so far, least recently used first. */
  blobs(): IndexedBlob[] {
    return this.#statements.blobs.all().map(readBlob)
  }

  /**
   * Whether the last write worked. If not, for lack of room or otherwise, what it brought still waits, and nothing more
   * should be added.
   */
  get health(): 'well' | 'full' | 'failing' {
    return this.#health
  }

  /**
   * The held chunks of a blob, in pages, with what still waits to be written.
   * @throws {StoreIoError} when the index can't be read.
   */
  *chunks(blob: number): Generator<IndexedChunk[]> {
    const pending = new Map(this.#chunks.get(blob))
    let from = 0
    for (;;) {
      const page = this.#page(blob, from)
      const last = page.at(-1)
      if (last === undefined) break
      from = last[0] + 1
      yield page.filter(([index]) => !pending.has(index))
    }
    yield [...pending].flatMap(([index, hash]) => (hash === undefined ? [] : [[index, hash] as const]))
  }

  /** Notes that a chunk is held, now that its data is in its file. Copies `hash`. */
  putChunk(blob: IndexedBlob, index: number, hash: Uint8Array): void {
    this.#changeChunk(blob, index, new Uint8Array(hash))
  }

  /** Notes that a chunk is no longer held. */
  dropChunk(blob: IndexedBlob, index: number): void {
    this.#changeChunk(blob, index, undefined)
  }

  /** Notes that something about a blob has changed. */
  changeBlob(blob: IndexedBlob): void {
    this.#changed.set(blob.id, blob)
    this.#schedule(BATCH_MS)
  }

  /** Notes that a blob and its chunks are gone. */
  removeBlob(blob: IndexedBlob): void {
    this.#changed.delete(blob.id)
    this.#pendingChunks -= this.#chunks.get(blob.id)?.size ?? 0
    this.#chunks.delete(blob.id)
    this.#removed.add(blob.id)
    this.#schedule(BATCH_MS)
  }

  /**
   * Writes what waits; returns whether it worked. When not, it is logged, kept and tried again later.
   * `durable` makes sure that it survives a power cut as well: for what must not come back.
   */
  flush(durable: boolean): boolean {
    clearTimeout(this.#timer)
    this.#timer = undefined
    if (this.#removed.size === 0 && this.#changed.size === 0) return true
    try {
      if (durable) this.#db.exec('PRAGMA synchronous = FULL')
      try {
        this.#write()
      } finally {
        if (durable) this.#db.exec('PRAGMA synchronous = NORMAL')
      }
    } catch (error) {
      if (this.#health === 'well') {
        this.#log.error({ err: error }, 'the store index could not be written; will try again')
      }
      this.#health = isFull(error) ? 'full' : 'failing'
      this.#schedule(RETRY_MS)
      return false
    }
    this.#health = 'well'
    this.#removed.clear()
    this.#changed.clear()
    this.#chunks.clear()
    this.#pendingChunks = 0
    return true
  }

  /** Writes what waits and closes the database. */
  close(): void {
    this.flush(true)
    clearTimeout(this.#timer)
    this.#db.close()
  }

  #page(blob: number, from: number): IndexedChunk[] {
    try {
      return this.#statements.chunks.all(blob, from, PAGE_CHUNKS).map(readChunk)
    } catch (error) {
      throw new StoreIoError('read its index', error)
    }
  }

  #changeChunk(blob: IndexedBlob, index: number, hash: Uint8Array | undefined): void {
    let chunks = this.#chunks.get(blob.id)
    if (chunks === undefined) {
      chunks = new Map()
      this.#chunks.set(blob.id, chunks)
    }
    if (!chunks.has(index)) this.#pendingChunks++
    chunks.set(index, hash)
    this.#changed.set(blob.id, blob)
    if (this.#pendingChunks >= BATCH_CHUNKS && this.#health === 'well') this.flush(false)
    else this.#schedule(BATCH_MS)
  }

  #schedule(delayMs: number): void {
    this.#timer ??= setTimeout(() => this.flush(false), delayMs)
  }

  #write(): void {
    const run = this.#statements
    this.#db.exec('BEGIN IMMEDIATE')
    try {
      for (const id of this.#removed) {
        run.deleteChunks.run(id)
        run.deleteBlob.run(id)
      }
      for (const blob of this.#changed.values()) {
        if (blob.heldChunks === 0 && blob.proof === undefined) run.deleteBlob.run(blob.id)
        else run.putBlob.run(...writeBlob(blob))
      }
      for (const [id, chunks] of this.#chunks) {
        for (const [index, hash] of chunks) {
          if (hash === undefined) run.deleteChunk.run(id, index)
          else run.putChunk.run(id, index, hash)
        }
      }
      this.#db.exec('COMMIT')
    } catch (error) {
      if (this.#db.isTransaction) this.#db.exec('ROLLBACK')
      throw error
    }
  }
}

/**
 * Opens the index of a directory, or makes it, with the blobs that it holds, least recently used first. One that is damaged is moved aside (the last one is kept, as
 * `index.db.corrupt`), logged, and replaced by an empty one.
 * @throws {StoreVersionError} when a newer version wrote it.
 * @throws {StoreIoError} when it can't be opened.
 */
export function openIndex(directory: string, log: Logger): { index: ChunkIndex; blobs: IndexedBlob[] } {
  const path = join(directory, 'index.db')
  for (let attempt = 0; ; attempt++) {
    try {
      return attach(openDatabase(directory, path), log)
    } catch (error) {
      if (error instanceof StoreVersionError) throw error
      if (attempt > 0 || !(error instanceof DamagedIndex || isCorrupt(error))) {
        throw new StoreIoError('open its index', error)
      }
      log.error(
        { err: error, path },
        'the store index is damaged: moved it aside, starting with an empty store',
      )
      moveAside(path)
    }
  }
}

function attach(db: DatabaseSync, log: Logger): { index: ChunkIndex; blobs: IndexedBlob[] } {
  try {
    const index = new ChunkIndex(db, log)
    return { index, blobs: index.blobs() }
  } catch (error) {
    db.close()
    throw error
  }
}

class DamagedIndex extends Error {}

function openDatabase(directory: string, path: string): DatabaseSync {
  createPrivateFile(path)
  const db = new DatabaseSync(path, { timeout: 0 })
  try {
    db.exec('PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL')
    const check = db.prepare('PRAGMA quick_check(1)').get()?.quick_check
    if (check !== 'ok') throw new DamagedIndex(String(check))
    const version = Number(db.prepare('PRAGMA user_version').get()?.user_version)
    if (version > FORMAT) throw new StoreVersionError(directory, version, FORMAT)
    if (version < FORMAT) db.exec(`BEGIN IMMEDIATE; ${SCHEMA} COMMIT`)
    return db
  } catch (error) {
    db.close()
    throw error
  }
}

function moveAside(path: string): void {
  for (const suffix of ['', '-wal', '-shm']) {
    const aside = `${path}.corrupt${suffix}`
    rmSync(aside, { force: true })
    try {
      renameSync(path + suffix, aside)
    } catch (error) {
      if (systemCode(error) !== 'ENOENT') throw error
    }
  }
}

type Statements = Readonly<
  Record<
    'blobs' | 'chunks' | 'putBlob' | 'deleteBlob' | 'putChunk' | 'deleteChunk' | 'deleteChunks',
    StatementSync
  >
>

function prepare(db: DatabaseSync): Statements {
  return {
    blobs: db.prepare('SELECT * FROM blobs ORDER BY last_used, id'),
    chunks: db.prepare('SELECT idx, hash FROM chunks WHERE blob = ? AND idx >= ? ORDER BY idx LIMIT ?'),
    putBlob: db.prepare(`
      INSERT INTO blobs (id, digest, size, held_chunks, held_bytes, complete, synced, last_used, checked_at, checked_next)
      VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
      ON CONFLICT (id) DO UPDATE SET held_chunks = excluded.held_chunks, held_bytes = excluded.held_bytes,
        complete = excluded.complete, synced = excluded.synced, last_used = excluded.last_used,
        checked_at = excluded.checked_at, checked_next = excluded.checked_next`),
    deleteBlob: db.prepare('DELETE FROM blobs WHERE id = ?'),
    putChunk: db.prepare(
      'INSERT INTO chunks (blob, idx, hash) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET hash = excluded.hash',
    ),
    deleteChunk: db.prepare('DELETE FROM chunks WHERE blob = ? AND idx = ?'),
    deleteChunks: db.prepare('DELETE FROM chunks WHERE blob = ?'),
  }
}

type Row = Record<string, unknown>

function writeBlob(blob: IndexedBlob): (number | string)[] {
  return [
    blob.id,
    blob.digest,
    blob.size,
    blob.heldChunks,
    blob.heldBytes,
    blob.proof === undefined ? INCOMPLETE : PROOFS[blob.proof],
    Number(blob.synced),
    Math.round(blob.lastUsed),
    Math.round(blob.checkedAt),
    blob.checkedNext,
  ]
}

function readBlob(row: Row): IndexedBlob {
  const { digest } = row
  const size = Number(row.size)
  if (typeof digest !== 'string' || !isDigest(digest) || size < 0 || size > MAX_BLOB_BYTES) {
    throw new DamagedIndex('a row of blobs has no valid digest or size')
  }
  return {
    id: Number(row.id),
    digest,
    size,
    heldChunks: Number(row.held_chunks),
    heldBytes: Number(row.held_bytes),
    proof: row.complete === PROOFS.digest ? 'digest' : row.complete === PROOFS.list ? 'list' : undefined,
    synced: row.synced === 1,
    lastUsed: Number(row.last_used),
    checkedAt: Number(row.checked_at),
    checkedNext: Number(row.checked_next),
  }
}

function readChunk(row: Row): IndexedChunk {
  if (!(row.hash instanceof Uint8Array)) throw new DamagedIndex('a row of chunks has no hash')
  return [Number(row.idx), row.hash]
}
