import { mkdir } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { parseImageReference } from '@darter/oci'
import { approximateBytes } from '@darter/runtime'
import { peerUrl } from '../banner.ts'
import type { Resolved } from '../config/resolve.ts'
import { fetchInto } from '../get/fetch.ts'
import { createBar, NO_PROGRESS } from '../get/progress.ts'
import { createSource } from '../get/source.ts'
import { isThere, toFile } from '../get/to-file.ts'
import { IMAGE_CREDENTIALS, type ImageBlob, listBlobs } from '../images/blobs.ts'
import { interruptible } from './interruptible.ts'

/** The command's own arguments. */
export interface ExportOptions {
  /** `[UPSTREAM/]REPOSITORY[:TAG|@DIGEST]`. */
  readonly image: string
  /** Made when it is missing (0700). */
  readonly dir: string
  readonly quiet: boolean
}

/**
 * Puts the blobs of an image into a directory, each under its bare sha256, as nydusd's `localfs` backend reads them. A file
 * there is whole and has the digest of its name from its first moment; one that is there already is checked, and kept if it is right.
 */
export async function runExport(
  { settings }: Resolved,
  { image, dir, quiet }: ExportOptions,
): Promise<number> {
  const peer = peerUrl(settings)
  return await interruptible('the same command goes on from here', async signal => {
    const blobs = await listBlobs(peer, parseImageReference(image), signal)
    await mkdir(dir, { recursive: true, mode: 0o700 })
    for (const blob of blobs) {
      const file = join(resolve(dir), blob.hex)
      const there = await isThere(file, blob.digest, blob.size, signal)
      if (!there) await fetchBlob(file, blob, { peer, quiet, signal })
      const note = there ? ', there already' : ''
      if (!quiet) process.stderr.write(`${file}: ${approximateBytes(blob.size)}${note}\n`)
    }
    return 0
  })
}

async function fetchBlob(
  file: string,
  { digest, hex, path }: ImageBlob,
  options: { readonly peer: string; readonly quiet: boolean; readonly signal: AbortSignal },
): Promise<void> {
  const { peer, quiet, signal } = options
  const source = createSource({
    peer,
    path,
    wanted: digest,
    headers: new Map(),
    credentials: IMAGE_CREDENTIALS,
  })
  const progress = process.stderr.isTTY && !quiet ? createBar(hex.slice(0, 12), process.stderr) : NO_PROGRESS
  try {
    await toFile(file, sink => fetchInto({ source, sink, sourceId: hex, wanted: digest, progress, signal }))
  } finally {
    progress.stop()
    await source.close()
  }
}
