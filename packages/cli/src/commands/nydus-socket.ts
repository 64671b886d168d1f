import { mkdir } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { authority } from '../banner.ts'
import type { Resolved } from '../config/resolve.ts'
import { listBlobs } from '../images/blobs.ts'
import { parseImageReference } from '../images/reference.ts'
import { type BlobSocket, openBlobSocket } from '../images/socket.ts'

/** Of the sha256 in a socket's name: the path of a socket must not be long. */
const NAME_DIGITS = 32

/** The command's own arguments. */
export interface NydusSocketOptions {
  /** `[UPSTREAM/]REPOSITORY[:TAG|@DIGEST]`. */
  readonly images: readonly string[]
  /** Where the sockets go; made when it is missing (0700). */
  readonly dir: string
}

/**
 * Opens a socket for each blob of the images, prints the blob's sha256 and the socket's path once all are open, and serves them from
 * the peer until a signal.
 */
export async function runNydusSocket(
  { settings }: Resolved,
  { images, dir }: NydusSocketOptions,
): Promise<number> {
  const peer = { host: settings['door.host'], port: settings['door.port'] }
  const stopping = new AbortController()
  const { promise: stopped, resolve: end } = Promise.withResolvers<void>()
  const stop = () => {
    stopping.abort(new Error('stopped'))
    end()
  }
  process.once('SIGINT', stop).once('SIGTERM', stop)
  const sockets = new Map<string, BlobSocket>()
  const lines: string[] = []
  try {
    await mkdir(dir, { recursive: true, mode: 0o700 })
    for (const image of images) {
      const blobs = await listBlobs(`http://${authority(peer)}`, parseImageReference(image), stopping.signal)
      for (const blob of blobs) {
        const path = join(resolve(dir), `${blob.hex.slice(0, NAME_DIGITS)}.sock`)
        if (sockets.has(path)) continue
        sockets.set(path, await openBlobSocket(path, blob, peer))
        lines.push(`${blob.hex} ${path}\n`)
      }
    }
    process.stdout.write(lines.join(''))
    await stopped
    return 0
  } catch (error) {
    if (!stopping.signal.aborted) throw error
    return 0
  } finally {
    process.off('SIGINT', stop).off('SIGTERM', stop)
    await Promise.all([...sockets.values()].map(socket => socket.close()))
  }
}
