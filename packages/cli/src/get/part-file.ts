import { type FileHandle, open, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { z } from 'zod'

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

/** A file in the making: `<file>.part`, and what it is the beginning of in `<file>.part.json`. */
export interface PartFile {
  /** How many bytes an earlier run left of {@link identity}. */
  readonly length: number
  /** What an earlier run was fetching; undefined for nothing that can be gone on with. */
  readonly identity: PartIdentity | undefined
  /** Reads bytes [from, to), in order. */
  read(from: number, to: number): AsyncIterable<Uint8Array>
  write(bytes: Uint8Array, position: number): Promise<void>
  /** Starts anew with nothing; undefined where it could not be gone on with later. */
  begin(identity: PartIdentity | undefined): Promise<void>
  /** Makes the bytes durable and puts them in place of the file, all at once. */
  finish(size: number): Promise<void>
  /** Leaves nothing behind. */
  discard(): Promise<void>
  close(): Promise<void>
}

const PIECE_BYTES = 1024 * 1024

/** Opens what an earlier run left of a file, or makes it. */
export async function openPart(file: string): Promise<PartFile> {
  const part = `${file}.part`
  const note = `${part}.json`
  const handle = await openOrMake(part)
  const { size: length } = await handle.stat()
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
      if (next === undefined) await rm(note, { force: true })
      else await writeFile(note, JSON.stringify(next), { mode: 0o600 })
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

async function openOrMake(path: string): Promise<FileHandle> {
  try {
    return await open(path, 'r+')
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error
    return await open(path, 'wx+')
  }
}

async function readNote(path: string): Promise<PartIdentity | undefined> {
  try {
    const { etag, modified, digest, ...rest } = schema.parse(JSON.parse(await readFile(path, 'utf8')))
    return { ...rest, etag, modified, digest }
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
