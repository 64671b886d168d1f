import { mkdir, open, readdir, readFile, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { DarterError } from '@darter/oci'
import type { Logger } from '@darter/runtime'
import { z } from 'zod'
import { preheatRequest } from './preheat-request.ts'
import type { PreheatRecord } from './preheats.ts'

/** A file among those of a scheduler's preheats does not hold one. */
export class PreheatRecordError extends DarterError {
  readonly code = 'PREHEAT_RECORD'
}

/** A preheat takes more than a scheduler keeps of one on disk. */
export class PreheatTooLargeError extends DarterError {
  readonly code = 'PREHEAT_TOO_LARGE'
}

/** The jobs on disk, one file for each, so that a change of one writes no other. No disk makes a call fail: what it refuses is logged. */
export interface PreheatJournal {
  /** What was kept. Files that hold no job are logged and removed, those that cannot be read logged and left alone. */
  load(): Promise<readonly PreheatRecord[]>
  /** Writes a job as it stands soon, or removes it when it is no more. */
  save(id: string): void
  /** Resolves when all that was to be saved until now is written, or was refused. */
  saved(): Promise<void>
}

/** More than a job for 10 000 peers takes. */
const MAX_FILE_BYTES = 4 * 1024 * 1024

const { target, digest, platform, to } = preheatRequest.shape
const printable = z.string().regex(/^[ -~]*$/)
const bytes = z.int().min(0)
const peer = z.strictObject({
  id: printable,
  zone: printable,
  state: z.enum(['asked', 'running', 'done', 'failed', 'cancelled', 'lost']),
  held: bytes,
  size: bytes,
  failures: z.array(z.strictObject({ what: printable, code: printable, message: printable })),
})
const isOpen = ({ state }: z.infer<typeof peer>): boolean => ['asked', 'running', 'lost'].includes(state)
const preheatRecord = z
  .strictObject({
    id: z.string().regex(/^[0-9a-f]{32}$/),
    target,
    digest,
    platform: platform.unwrap().nullable(),
    to,
    hadSecrets: z.boolean(),
    state: z.enum(['running', 'done', 'failed', 'cancelled']),
    startedAt: z.iso.datetime(),
    endedAt: z.iso.datetime().nullable(),
    version: z.int().min(1),
    peers: z.array(peer),
  })
  .refine(({ state, endedAt }) => (state === 'running') === (endedAt === null), 'it is and is not over')
  .refine(({ state, peers }) => (state === 'running') === peers.some(isOpen), 'its peers contradict it')

/**
 * A journal of files of at most 4 MiB (0600) in `directory` (0700). A job that takes more is kept without what failed.
 * @param options.snapshot - a job as it stands when its file is written; undefined when there is none any more.
 */
export function createPreheatJournal(options: {
  readonly directory: string
  readonly log: Logger
  readonly snapshot: (id: string) => PreheatRecord | undefined
}): PreheatJournal {
  const { directory, log, snapshot } = options
  const waiting = new Set<string>()
  let work = Promise.resolve()

  const write = async (id: string): Promise<void> => {
    waiting.delete(id)
    const file = join(directory, `${id}.json`)
    const record = snapshot(id)
    if (record === undefined) return await rm(file, { force: true })
    const text = textOf(record)
    await mkdir(directory, { recursive: true, mode: 0o700 })
    const next = `${file}.next`
    const handle = await open(next, 'w', 0o600)
    try {
      await handle.writeFile(text)
      await handle.datasync()
    } finally {
      await handle.close()
    }
    await rename(next, file)
  }

  const read = async (name: string): Promise<PreheatRecord | undefined> => {
    const file = join(directory, name)
    try {
      return await readRecord(file, name)
    } catch (error) {
      log.warn({ err: error, file }, 'a preheat from before the start could not be read: it is forgotten')
      if (error instanceof PreheatRecordError) await remove(file)
      return undefined
    }
  }

  const remove = async (file: string): Promise<void> => {
    try {
      await rm(file, { force: true })
    } catch (error) {
      log.warn({ err: error, file }, 'a file of no use could not be removed')
    }
  }

  return {
    load: async () => {
      let names: readonly string[] = []
      try {
        names = await readdir(directory)
      } catch (error) {
        if (!isMissing(error)) {
          log.warn(
            { err: error, directory },
            'preheats from before the start could not be read: they are forgotten',
          )
        }
      }
      const records: PreheatRecord[] = []
      for (const name of names) {
        // What a write left that a crash cut short.
        if (name.endsWith('.json.next')) await remove(join(directory, name))
        const record = name.endsWith('.json') ? await read(name) : undefined
        if (record !== undefined) records.push(record)
      }
      return records
    },
    save: id => {
      if (waiting.has(id)) return
      waiting.add(id)
      work = work
        .then(() => write(id))
        .catch((error: unknown) =>
          log.warn(
            { err: error, job: id, directory },
            'a preheat was not written to disk: a restart may forget it',
          ),
        )
    },
    saved: () => work,
  }
}

/** @throws {PreheatRecordError}; what the file system throws. */
async function readRecord(file: string, name: string): Promise<PreheatRecord> {
  const { size } = await stat(file)
  if (size > MAX_FILE_BYTES) throw new PreheatRecordError(`it has ${size} bytes, more than a job is kept in`)
  const text = await readFile(file, 'utf8')
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw new PreheatRecordError('it is no JSON', { cause: error })
  }
  const { success, data, error } = preheatRecord.safeParse(value)
  if (!success) throw new PreheatRecordError(`it is no job: ${z.prettifyError(error)}`)
  if (name !== `${data.id}.json`) throw new PreheatRecordError(`it is the job ${data.id}, under another name`)
  return data
}

/** @throws {PreheatTooLargeError} */
function textOf(record: PreheatRecord): string {
  const text = JSON.stringify(record)
  if (text.length <= MAX_FILE_BYTES) return text
  const bare = JSON.stringify({ ...record, peers: record.peers.map(part => ({ ...part, failures: [] })) })
  if (bare.length <= MAX_FILE_BYTES) return bare
  throw new PreheatTooLargeError(`a job for ${record.peers.length} peers takes ${bare.length} bytes`)
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT'
}
