import { appendFile, mkdir, open, readFile, rename, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { Logger } from '@darter/runtime'

/**
 * A file of lines that only grows, until it is written anew with what still counts. What a crash tears off its end
 * is a lost line, never a wrong one: the reader skips what it cannot parse.
 */
export interface Journal {
  /** The lines in the order they were written. A missing file has none. */
  load(): Promise<string[]>
  /** Writes a line soon. Never fails: a disk that refuses is logged, and the line is lost. */
  append(line: string): void
  /** Writes what waits. Nothing may be appended afterwards. */
  close(): Promise<void>
}

const MAX_FILE_BYTES = 64 * 1024 * 1024
const MAX_WAITING_LINES = 8192
const SPARE_LINES = 1024

/** A journal that keeps nothing. */
export const noJournal: Journal = { load: async () => [], append: () => {}, close: async () => {} }

/**
 * A journal in `file` (0600, its directory 0700). When it holds more than twice the lines that count, and some, it is
 * replaced at once (by rename) with `snapshot()`. Bounded: 64 MiB on disk, 8192 lines waiting.
 */
export function createJournal(options: {
  readonly file: string
  readonly log: Logger
  /** The lines that still count; must be called in one go with nothing appended meanwhile. */
  readonly snapshot: () => string[]
}): Journal {
  const { file, log, snapshot } = options
  let waiting: string[] = []
  let written = 0
  let live = 0
  /** The last line on disk has no end: whatever is appended must not become part of it. */
  let torn = false
  let running: Promise<void> | undefined

  const flush = async (): Promise<void> => {
    await mkdir(dirname(file), { recursive: true, mode: 0o700 })
    while (waiting.length > 0) {
      const lines = waiting
      waiting = []
      if (written + lines.length > 2 * live + SPARE_LINES) {
        const all = snapshot()
        await replace(file, all)
        torn = false
        written = live = all.length
      } else {
        await appendFile(file, (torn ? '\n' : '') + toText(lines), { mode: 0o600 })
        torn = false
        written += lines.length
      }
    }
  }
  const start = () => {
    running ??= flush()
      .catch((error: unknown) => {
        log.warn({ err: error, file, lines: waiting.length }, 'what tags stand for was not written to disk')
        waiting = []
      })
      .finally(() => {
        running = undefined
        if (waiting.length > 0) start()
      })
  }
  const close = async (): Promise<void> => {
    if (running === undefined) return
    await running
    await close()
  }
  return {
    load: async () => {
      try {
        if ((await stat(file)).size > MAX_FILE_BYTES) return []
        const text = await readFile(file, 'utf8')
        torn = text !== '' && !text.endsWith('\n')
        const lines = text.split('\n').filter(line => line !== '')
        written = live = lines.length
        return lines
      } catch (error) {
        if (!isMissing(error)) log.warn({ err: error, file }, 'what tags stood for could not be read')
        return []
      }
    },
    append: line => {
      if (waiting.length >= MAX_WAITING_LINES) return
      waiting.push(line)
      start()
    },
    close,
  }
}

function toText(lines: readonly string[]): string {
  return lines.map(line => `${line}\n`).join('')
}

async function replace(file: string, lines: readonly string[]): Promise<void> {
  const next = `${file}.next`
  const handle = await open(next, 'w', 0o600)
  try {
    await handle.writeFile(toText(lines))
    await handle.datasync()
  } finally {
    await handle.close()
  }
  await rename(next, file)
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT'
}
