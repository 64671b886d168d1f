import { createHash, type Hash } from 'node:crypto'
import { constants } from 'node:fs'
import { type FileHandle, mkdir, open, readdir, unlink } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { type Digest, digestAlgorithm, digestHex, isDigest } from '@darter/oci'
import { CachedReads, LoopTurns } from './cached-reads.ts'
import { CachedWrites } from './cached-writes.ts'
import { loadSendFile, type SendFile } from './send-file.ts'

/** How much is read and hashed at a time, so that the event loop gets a turn within a millisecond or so. */
const PIECE_BYTES = 1024 * 1024
const MAX_SPARE_PIECES = 4

/** Buffers for checking chunks, used again and again. */
export class PiecePool {
  #spare: Buffer[] = []

  take(): Buffer {
    return this.#spare.pop() ?? Buffer.allocUnsafeSlow(PIECE_BYTES)
  }

  give(piece: Buffer): void {
    if (this.#spare.length < MAX_SPARE_PIECES) this.#spare.push(piece)
  }
}

/** What the files of one store share. */
export class FileRooms {
  readonly pieces = new PiecePool()
  readonly turns = new LoopTurns()
  #sendFile: Promise<SendFile | undefined> | undefined

  /** How bytes go from a file to a socket, if there is a way; found at the first call. */
  get sendFile(): Promise<SendFile | undefined> {
    this.#sendFile ??= loadSendFile()
    return this.#sendFile
  }
}

/** The system's code of an error, such as `ENOSPC`. */
export function systemCode(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined
}

/** Where a blob's data lies: `blobs/<first two hex digits>/<algorithm>-<hex>` in the store's directory. */
export function blobPath(directory: string, digest: Digest): string {
  const hex = digestHex(digest)
  return join(directory, 'blobs', hex.slice(0, 2), `${digestAlgorithm(digest)}-${hex}`)
}

/** The digests of all data files in the directory. What doesn't look like one is left out. */
export async function* listBlobFiles(directory: string): AsyncGenerator<Digest> {
  const blobs = join(directory, 'blobs')
  for (const shelf of await readdir(blobs)) {
    if (!/^[0-9a-f]{2}$/.test(shelf)) continue
    for (const name of await readdir(join(blobs, shelf))) {
      const digest = name.replace('-', ':')
      if (isDigest(digest) && digestHex(digest).startsWith(shelf)) yield digest
    }
  }
}

/** Deletes a blob's data file; fine when there is none. */
export async function deleteBlobFile(path: string): Promise<void> {
  try {
    await unlink(path)
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw error
  }
}

/** The sparse data file of one blob. */
export class BlobFile {
  #handle: FileHandle
  #path: string
  #rooms: FileRooms
  #reads: CachedReads
  #writes: CachedWrites
  /** The file's name may not be on the disk yet. */
  #unnamed = true
  /** The file was shorter than the blob when it was opened: new, or cut short behind the store's back. */
  readonly wasShort: boolean

  /** @param before its size when it was opened: of a new one, 0. */
  private constructor(handle: FileHandle, path: string, rooms: FileRooms, before: number, size: number) {
    this.#handle = handle
    this.#path = path
    this.#rooms = rooms
    this.#reads = new CachedReads(handle.fd, rooms.turns, before === 0)
    this.#writes = new CachedWrites(handle.fd, rooms.turns)
    this.wasShort = before < size
  }

  /** Opens the file for a blob of `size` bytes, making it (and its directory) when there is none. */
  static async open(path: string, size: number, rooms: FileRooms): Promise<BlobFile> {
    const handle = await openMaking(path)
    try {
      const before = (await handle.stat()).size
      if (before < size) await handle.truncate(size)
      return new BlobFile(handle, path, rooms, before, size)
    } catch (error) {
      await handle.close()
      throw error
    }
  }

  async write(position: number, bytes: Uint8Array): Promise<void> {
    for (let done = 0; done < bytes.length; ) {
      done += await this.#writes.write(bytes, done, position + done)
    }
  }

  /** Fills `target`, as far as the file goes; returns the bytes read. */
  async read(position: number, target: Uint8Array): Promise<number> {
    let done = 0
    while (done < target.length) {
      const count = await this.#reads.read(target, done, position + done)
      if (count === 0) break
      done += count
    }
    return done
  }

  /** Puts up to `length` bytes into the socket that `to` names then, without waiting for it or, most likely, for the disk. */
  async send(to: () => number | undefined, position: number, length: number): Promise<number> {
    if (!this.#reads.isWarm) return 0
    const sendFile = await this.#rooms.sendFile
    return sendFile === undefined ? 0 : await this.#reads.send(sendFile, to, position, length)
  }

  /**
   * The sha256 of `length` bytes; undefined when the file ends before them or the disk can't read them. The part from
   * `offset` on is left in `target`: the very bytes that were hashed.
   */
  async hash(position: number, length: number, offset = 0, target?: Uint8Array): Promise<Buffer | undefined> {
    const hash = createHash('sha256')
    const piece = this.#rooms.pieces.take()
    const start = target === undefined ? length : offset
    const end = start + (target?.length ?? 0)
    try {
      for (let at = 0; at < length; ) {
        const inside = target !== undefined && at >= start && at < end
        const bound = inside ? end : at < start ? start : length
        const size = Math.min(PIECE_BYTES, bound - at)
        const into = inside ? target.subarray(at - start, at - start + size) : piece.subarray(0, size)
        if ((await this.read(position + at, into)) < size) return undefined
        hash.update(into)
        at += size
      }
      return hash.digest()
    } catch (error) {
      if (systemCode(error) === 'EIO') return undefined
      throw error
    } finally {
      this.#rooms.pieces.give(piece)
    }
  }

  /** Hashes `length` bytes on; false when the file ends before them or the disk can't read them. */
  async feed(hash: Hash, position: number, length: number): Promise<boolean> {
    const piece = this.#rooms.pieces.take()
    try {
      for (let at = 0; at < length; ) {
        const into = piece.subarray(0, Math.min(PIECE_BYTES, length - at))
        if ((await this.read(position + at, into)) < into.length) return false
        hash.update(into)
        at += into.length
      }
      return true
    } catch (error) {
      if (systemCode(error) === 'EIO') return false
      throw error
    } finally {
      this.#rooms.pieces.give(piece)
    }
  }

  /** Makes all that was written so far survive a power cut. */
  async sync(): Promise<void> {
    await this.#handle.datasync()
    if (!this.#unnamed) return
    const shelf = dirname(this.#path)
    for (const directory of [shelf, dirname(shelf)]) {
      const handle = await open(directory, constants.O_RDONLY | constants.O_DIRECTORY)
      try {
        await handle.sync()
      } finally {
        await handle.close()
      }
    }
    this.#unnamed = false
  }

  async close(): Promise<void> {
    await this.#handle.close()
  }
}

async function openMaking(path: string): Promise<FileHandle> {
  const flags = constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW
  try {
    return await open(path, flags, 0o600)
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw error
    await mkdir(dirname(path), { recursive: true, mode: 0o700 })
    return await open(path, flags, 0o600)
  }
}
