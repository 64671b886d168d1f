import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdir, stat } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { approximateBytes } from '@darter/runtime'
import { authority } from '../banner.ts'
import type { Resolved } from '../config/resolve.ts'
import { GetTargetError } from '../get/errors.ts'
import { fetchInto } from '../get/fetch.ts'
import { createBar, NO_PROGRESS } from '../get/progress.ts'
import { createSource } from '../get/source.ts'
import { toFile } from '../get/to-file.ts'
import { type ImageBlob, listBlobs } from '../images/blobs.ts'
import { parseImageReference } from '../images/reference.ts'

/** The command's own arguments. */
export interface ExportOptions {
  /** `[UPSTREAM/]REPOSITORY[:TAG|@DIGEST]`. */
  readonly image: string
  /** Made when it is missing (0700). */
  readonly dir: string
  readonly quiet: boolean
}

const INTERRUPTED = 130

/**
 * Puts the blobs of an image into a directory, each under its bare sha256, as nydusd's `localfs` backend reads them. A file
 * there is whole and has the digest of its name from its first moment; one that is there already is checked, and kept if it is right.
 */
export async function runExport(
  { settings }: Resolved,
  { image, dir, quiet }: ExportOptions,
): Promise<number> {
  const peer = `http://${authority({ host: settings['door.host'], port: settings['door.port'] })}`
  const stopping = new AbortController()
  const stop = () => stopping.abort(new GetTargetError('interrupted'))
  process.once('SIGINT', stop).once('SIGTERM', stop)
  try {
    const blobs = await listBlobs(peer, parseImageReference(image), stopping.signal)
    await mkdir(dir, { recursive: true, mode: 0o700 })
    for (const blob of blobs) await exportBlob(blob)
    return 0
  } catch (error) {
    if (!stopping.signal.aborted) throw error
    process.stderr.write('darter: interrupted; the same command goes on from here\n')
    return INTERRUPTED
  } finally {
    process.off('SIGINT', stop).off('SIGTERM', stop)
  }

  async function exportBlob({ digest, hex, size, path }: ImageBlob): Promise<void> {
    const file = join(resolve(dir), hex)
    const there = await isThere(file, hex, size)
    if (!there) {
      const source = createSource({ peer, path, wanted: digest, headers: new Map() })
      const progress =
        process.stderr.isTTY && !quiet ? createBar(hex.slice(0, 12), process.stderr) : NO_PROGRESS
      try {
        await toFile(file, sink =>
          fetchInto({ source, sink, sourceId: hex, wanted: digest, progress, signal: stopping.signal }),
        )
      } finally {
        progress.stop()
        await source.close()
      }
    }
    if (!quiet) process.stderr.write(`${file}: ${approximateBytes(size)}${there ? ', there already' : ''}\n`)
  }
}

/** Whether a file holds the bytes of its name. */
async function isThere(file: string, hex: string, size: number): Promise<boolean> {
  const found = await stat(file).catch(() => undefined)
  if (found?.isFile() !== true || found.size !== size) return false
  const hash = createHash('sha256')
  await pipeline(createReadStream(file, { highWaterMark: 1024 * 1024 }), hash)
  return hash.digest('hex') === hex
}
