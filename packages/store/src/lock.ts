import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { StoreIoError, StoreLockedError } from './errors.ts'
import { createPrivateFile, isBusy } from './sqlite.ts'

/**
 * Takes a directory for this process, until the returned function is called or the process is gone, however it went:
 * the lock is SQLite's own (the kernel's file lock), on a file that holds nothing.
 * @throws {StoreLockedError} when it is taken.
 */
export function lockDirectory(directory: string): () => void {
  const path = join(directory, 'lock.db')
  let db: DatabaseSync | undefined
  try {
    createPrivateFile(path)
    db = new DatabaseSync(path, { timeout: 0 })
    db.exec('PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE')
    const held = db
    return () => held.close()
  } catch (error) {
    db?.close()
    throw isBusy(error) ? new StoreLockedError(directory) : new StoreIoError('lock its directory', error)
  }
}
