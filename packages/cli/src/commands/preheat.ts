import { approximateBytes } from '@darter/runtime'
import { peerUrl } from '../banner.ts'
import type { Resolved } from '../config/resolve.ts'
import { createBar, NO_PROGRESS } from '../get/progress.ts'
import type { ImageReference } from '../images/reference.ts'
import type { Platform } from '../preheat/platform.ts'
import { preheat } from '../preheat/preheat.ts'
import { interruptible } from './interruptible.ts'

/** The command's own arguments. */
export interface PreheatOptions {
  readonly image: ImageReference
  readonly platform: Platform
  /** For the registry; names in lower case. */
  readonly headers: ReadonlyMap<string, string>
  readonly quiet: boolean
}

const NOTE = 'what has come is kept, and the same command goes on from here'

/** Brings an image into the peer of this machine before anybody pulls it. */
export async function runPreheat({ settings }: Resolved, options: PreheatOptions): Promise<number> {
  const { image, platform, headers, quiet } = options
  return await interruptible(NOTE, async signal => {
    const progress = process.stderr.isTTY && !quiet ? createBar(image.name, process.stderr) : NO_PROGRESS
    const started = performance.now()
    const { digest, blobs, bytes } = await preheat({
      peer: peerUrl(settings),
      image,
      platform,
      headers,
      onBytes: progress.update,
      signal,
    }).finally(() => progress.stop())
    const seconds = ((performance.now() - started) / 1000).toFixed(1)
    if (!quiet) {
      process.stderr.write(
        `${image.name}: ${blobs} blobs, ${approximateBytes(bytes)} in ${seconds} s\n${digest}\n`,
      )
    }
    return 0
  })
}
