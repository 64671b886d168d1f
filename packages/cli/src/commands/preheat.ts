import { approximateBytes } from '@darter/runtime'
import { authority } from '../banner.ts'
import type { Resolved } from '../config/resolve.ts'
import { GetTargetError } from '../get/errors.ts'
import { createBar, NO_PROGRESS } from '../get/progress.ts'
import type { ImageReference } from '../images/reference.ts'
import type { Platform } from '../preheat/platform.ts'
import { preheat } from '../preheat/preheat.ts'

/** The command's own arguments. */
export interface PreheatOptions {
  readonly image: ImageReference
  readonly platform: Platform
  /** For the registry; names in lower case. */
  readonly headers: ReadonlyMap<string, string>
  readonly quiet: boolean
}

const INTERRUPTED = 130

/** Brings an image into the peer of this machine before anybody pulls it. */
export async function runPreheat({ settings }: Resolved, options: PreheatOptions): Promise<number> {
  const { image, platform, headers, quiet } = options
  const peer = `http://${authority({ host: settings['door.host'], port: settings['door.port'] })}`
  const stopping = new AbortController()
  const stop = () => stopping.abort(new GetTargetError('interrupted'))
  process.once('SIGINT', stop).once('SIGTERM', stop)
  const progress = process.stderr.isTTY && !quiet ? createBar(image.name, process.stderr) : NO_PROGRESS
  const started = performance.now()
  try {
    const { digest, blobs, bytes } = await preheat({
      peer,
      image,
      platform,
      headers,
      onBytes: progress.update,
      signal: stopping.signal,
    })
    progress.stop()
    const seconds = ((performance.now() - started) / 1000).toFixed(1)
    if (!quiet) {
      process.stderr.write(
        `${image.name}: ${blobs} blobs, ${approximateBytes(bytes)} in ${seconds} s\n${digest}\n`,
      )
    }
    return 0
  } catch (error) {
    progress.stop()
    if (!stopping.signal.aborted) throw error
    process.stderr.write(
      'darter: interrupted; what has come is kept, and the same command goes on from here\n',
    )
    return INTERRUPTED
  } finally {
    process.off('SIGINT', stop).off('SIGTERM', stop)
  }
}
