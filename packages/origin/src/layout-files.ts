import { constants, type FileHandle, open, realpath } from 'node:fs/promises'
import { join, sep } from 'node:path'
import { Readable } from 'node:stream'
import { createHash } from 'node:crypto'
import { type Digest, digestAlgorithm, digestHex } from '@darter/oci'
import { abortable, type Throttle, withTimeout } from '@darter/runtime'
import { collect, type WatchedBody, watchBody } from './body.ts'
import { OriginProtocolError, OriginTimeoutError, OriginUnreachableError } from './errors.ts'

/** An open regular file of a layout. To be read once, or closed. */
export interface LayoutFile {
  /** Bytes. */
  readonly size: number
  /** Changes when the file does. */
  readonly version: string
  /** The bytes from `from` up to and not including `to`; closes the file at its end or when cancelled. */
  watch(from: number, to: number, signal: AbortSignal): WatchedBody
  close(): Promise<void>
}

/** The files of a layout directory, and nothing outside it. */
export interface LayoutFiles {
  /**
   * @param path - relative, of safe parts.
   * @returns undefined when there is none.
   * @throws {OriginProtocolError} when it is not a regular file inside the directory;
   * @throws {OriginUnreachableError} when it or the directory cannot be read, {@link OriginTimeoutError} in time.
   */
  open(path: string, signal: AbortSignal): Promise<LayoutFile | undefined>
  /**
   * The whole of a small blob, its digest checked; undefined when there is none or it is larger than `limit` bytes.
   * @throws {OriginProtocolError} when the file holds something else.
   */
  readBlob(digest: Digest, limit: number, signal: AbortSignal): Promise<Uint8Array | undefined>
}

const READ_BYTES = 256 * 1024
// Neither a link put there meanwhile nor a pipe can mislead or hold up the opening.
const SAFELY = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK

/** The path of a blob within a layout. */
export function blobPath(digest: Digest): string {
  return join('blobs', digestAlgorithm(digest), digestHex(digest))
}

export function createLayoutFiles(options: {
  readonly name: string
  readonly directory: string
  readonly timeoutMs: number
  readonly throttle?: Throttle | undefined
  readonly onBytes?: ((count: number) => void) | undefined
}): LayoutFiles {
  const { name, directory, timeoutMs, throttle, onBytes } = options

  const openInside = async (path: string): Promise<LayoutFile | undefined> => {
    const subject = `${name}: ${join(directory, path)}`
    let handle: FileHandle | undefined
    try {
      const root = await realpath(directory)
      const real = await ifPresent(realpath(join(root, path)))
      if (real === undefined) return undefined
      if (!real.startsWith(root.endsWith(sep) ? root : root + sep)) {
        throw new OriginProtocolError(`${subject} is a link that leads out of the directory`)
      }
      handle = await ifPresent(open(real, SAFELY))
      if (!handle) return undefined
      const stats = await handle.stat()
      if (!stats.isFile()) throw new OriginProtocolError(`${subject} is not a regular file`)
      return fileOf(handle, subject, stats.size, `${stats.ino}:${stats.mtimeMs}:${stats.size}`)
    } catch (error) {
      await handle?.close()
      if (error instanceof OriginProtocolError) throw error
      const reason = error instanceof Error && 'code' in error ? String(error.code) : 'unknown reason'
      throw new OriginUnreachableError(`${subject} cannot be read: ${reason}`, { cause: error })
    }
  }

  const fileOf = (handle: FileHandle, subject: string, size: number, version: string): LayoutFile => ({
    size,
    version,
    watch: (from, to, signal) => {
      const range = { start: from, end: to - 1, highWaterMark: READ_BYTES, signal }
      const source = from < to ? handle.createReadStream(range) : Readable.from([])
      if (from >= to) source.once('close', () => void handle.close().catch(() => {}))
      return watchBody(source, {
        subject,
        expected: to - from,
        progressTimeoutMs: timeoutMs,
        signal,
        throttle,
        onBytes,
      })
    },
    close: () => handle.close(),
  })

  const openSafely = async (path: string, signal: AbortSignal): Promise<LayoutFile | undefined> => {
    const late = () =>
      new OriginTimeoutError(`${name}: opening ${join(directory, path)}`, 'connect', timeoutMs)
    using deadline = withTimeout(signal, timeoutMs, late)
    const opening = openInside(path)
    try {
      return await abortable(opening, deadline.signal)
    } catch (error) {
      // A call to a file system that hangs cannot be called off; what it opens in the end is closed.
      if (deadline.signal.aborted) opening.then(file => file?.close()).catch(() => {})
      throw error
    }
  }

  return {
    open: openSafely,
    readBlob: async (digest, limit, signal) => {
      const file = await openSafely(blobPath(digest), signal)
      if (!file) return undefined
      if (file.size > limit) {
        await file.close()
        return undefined
      }
      const bytes = await collect(file.watch(0, file.size, signal), limit)
      const algorithm = digestAlgorithm(digest)
      const actual = bytes && `${algorithm}:${createHash(algorithm).update(bytes).digest('hex')}`
      if (actual !== undefined && actual !== digest) {
        throw new OriginProtocolError(`${name}: the file of ${digest} holds something else, ${actual}`)
      }
      return bytes
    },
  }
}

async function ifPresent<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined
    throw error
  }
}
