import { closeSync, openSync } from 'node:fs'
import { systemCode } from './blob-file.ts'

const SQLITE_ERROR = 1
const SQLITE_BUSY = 5
const SQLITE_CORRUPT = 11
const SQLITE_FULL = 13
const SQLITE_NOTADB = 26

/**
 * Makes an empty file that only its owner may read, unless there is one: SQLite's companions to it inherit that. One
 * that exists is not even opened: closing it would end all locks that this process has on it.
 */
export function createPrivateFile(path: string): void {
  try {
    closeSync(openSync(path, 'wx', 0o600))
  } catch (error) {
    if (systemCode(error) !== 'EEXIST') throw error
  }
}

/** Another connection holds the lock. */
export function isBusy(error: unknown): boolean {
  return primaryCode(error) === SQLITE_BUSY
}

/** The disk is full. */
export function isFull(error: unknown): boolean {
  return primaryCode(error) === SQLITE_FULL
}

/** The file is not a sound database, or not one with the tables that were expected. */
export function isCorrupt(error: unknown): boolean {
  const code = primaryCode(error)
  return code === SQLITE_CORRUPT || code === SQLITE_NOTADB || code === SQLITE_ERROR
}

/** SQLite's result code without its extension; undefined for errors that aren't SQLite's. */
function primaryCode(error: unknown): number | undefined {
  return error instanceof Error && 'errcode' in error && typeof error.errcode === 'number'
    ? error.errcode & 0xff
    : undefined
}
