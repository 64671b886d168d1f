import { constants } from 'node:fs'
import { type FileHandle, open, rename, rm, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { z } from 'zod'
import { GetTargetError } from './errors.ts'

/** Which version of which content a file in the making holds. */
export interface PartIdentity {
  /** A hash of the URL without its query, which may be secret. */
  readonly source: string
  /** As the peer told them; undefined for none. */
  readonly etag: string | undefined
  readonly modified: string | undefined
  readonly digest: string | undefined
  /** Bytes. */
  readonly size: number
}

const schema = z.object({
  source: z.string(),
  etag: z.string().optional(),
  modified: z.string().optional(),
  digest: z.string().optional(),
  size: z.number(),
})

/** Where bytes go that are fetched. */
export interface Sink {
  /** How many bytes an earlier run left of {@link identity}. */
  readonly length: number
  /** What an earlier run was fetching; undefined for nothing that can be gone on with. */
  readonly identity: PartIdentity | undefined
  /** Reads bytes [from, to), in order. */
  read(from: number, to: number): AsyncIterable<Uint8Array>
  /** Puts bytes at a position; resolves when more may come. */
  write(bytes: Uint8Array, position: number): Promise<void>
  /** Starts anew with nothing; undefined where it could not be gone on with later. */
  begin(identity: PartIdentity | undefined): Promise<void>
}

/** A file in the making: `<file>.part`, and what it is the beginning of in `<file>.part.json`. */
export interface PartFile extends Sink {
  /** Makes the bytes durable and puts them in place of the file, all at once. */
  finish(size: number): Promise<void>
  /** Leaves nothing behind. */
  discard(): Promise<void>
  close(): Promise<void>
}

const PIECE_BYTES = 1024 * 1024

/**
 * Opens what an earlier run left of a file, or makes it.
 * @throws {GetTargetError} when something is in its place that this user did not put there.
 */
export async function openPart(file: string): Promise<PartFile> {
  const part = `${file}.part`
  const note = `${part}.json`
  const { handle, length } = await openOwn(part, constants.O_RDWR | constants.O_CREAT)
  const identity = length === 0 ? undefined : await readNote(note)
  return {
    length,
    identity,
    read: async function* (from, to) {
      for (let at = from; at < to; ) {
        const buffer = Buffer.allocUnsafe(Math.min(PIECE_BYTES, to - at))
        const { bytesRead } = await handle.read(buffer, 0, buffer.length, at)
        if (bytesRead === 0) return
        at += bytesRead
        yield buffer.subarray(0, bytesRead)
      }
    },
    write: async (bytes, position) => {
      for (let at = 0; at < bytes.length; ) {
        const { bytesWritten } = await handle.write(bytes, at, bytes.length - at, position + at)
        at += bytesWritten
      }
    },
    begin: async next => {
      await handle.truncate(0)
      await rm(note, { force: true })
      if (next !== undefined) await writeFile(note, JSON.stringify(next), { mode: 0o600, flag: 'wx' })
    },
    finish: async size => {
      await handle.truncate(size)
      await handle.sync()
      await rename(part, file)
      await rm(note, { force: true })
      await syncDirectory(dirname(file))
    },
    discard: async () => {
      await rm(part, { force: true })
      await rm(note, { force: true })
    },
    close: () => handle.close(),
  }
}

/**
 * Opens a file that this user made. In a directory that others may write to, one of theirs, a link or a pipe may stand in its place.
 * @throws {GetTargetError} when it is none; what opening throws.
 */
async function openOwn(path: string, flags: number): Promise<{ handle: FileHandle; length: number }> {
  // A pipe would keep the opening waiting for somebody at its other end.
  const handle = await open(path, flags | constants.O_NOFOLLOW | constants.O_NONBLOCK).catch(
    (error: unknown) => {
      const isLink = error instanceof Error && 'code' in error && error.code === 'ELOOP'
      throw isLink ? new GetTargetError(`${path} is a link: remove it, or write elsewhere`) : error
    },
  )
  try {
    const found = await handle.stat()
    if (!found.isFile() || found.nlink !== 1 || found.uid !== process.geteuid?.()) {
      throw new GetTargetError(`${path} is another user's, or no plain file: remove it, or write elsewhere`)
    }
    return { handle, length: found.size }
  } catch (error) {
    await handle.close()
    throw error
  }
}

async function readNote(path: string): Promise<PartIdentity | undefined> {
  try {
    const { handle } = await openOwn(path, constants.O_RDONLY)
    try {
      const { etag, modified, digest, ...rest } = schema.parse(JSON.parse(await handle.readFile('utf8')))
      return { ...rest, etag, modified, digest }
    } finally {
      await handle.close()
    }
  } catch {
    // Whatever is wrong with it: the file is fetched from its beginning.
    return undefined
  }
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r')
  try {
    await directory.sync()
  } finally {
    await directory.close()
  }
}
