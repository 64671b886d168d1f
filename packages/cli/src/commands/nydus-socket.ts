import { once } from 'node:events'
import { mkdir } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { peerUrl } from '../banner.ts'
import type { Resolved } from '../config/resolve.ts'
import { listBlobs } from '../images/blobs.ts'
import { parseImageReference } from '@darter/oci'
import { type BlobSocket, openBlobSocket } from '../images/socket.ts'
import { untilSignal } from './interruptible.ts'

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
  return await untilSignal(async signal => {
    const stopped = once(signal, 'abort')
    const sockets = new Map<string, BlobSocket>()
    const lines: string[] = []
    try {
      await mkdir(dir, { recursive: true, mode: 0o700 })
      for (const image of images) {
        for (const blob of await listBlobs(peerUrl(settings), parseImageReference(image), signal)) {
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
      if (!signal.aborted) throw error
      return 0
    } finally {
      await Promise.all([...sockets.values()].map(socket => socket.close()))
    }
  })
}
