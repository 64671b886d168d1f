import { type Digest, parseImageReference, type Platform } from '@darter/oci'
import { approximateBytes } from '@darter/runtime'
import { peerUrl } from '../banner.ts'
import type { Resolved } from '../config/resolve.ts'
import { createBar, NO_PROGRESS } from '../get/progress.ts'
import { preheat } from '../preheat/preheat.ts'
import { preheatUrl } from '../preheat/url.ts'
import { interruptible } from './interruptible.ts'

/** The command's own arguments. */
export interface PreheatOptions {
  /** An image, one blob, or a URL. */
  readonly target: string
  /** The digest that the content of a URL has. */
  readonly digest?: Digest
  /** This machine's own when left out. */
  readonly platform?: Platform
  /** For the registry; names in lower case. */
  readonly headers: ReadonlyMap<string, string>
  readonly quiet: boolean
}

const NOTE = 'what has come is kept, and the same command goes on from here'
const OWN_PLATFORM: Platform = {
  os: 'linux',
  architecture: process.arch === 'x64' ? 'amd64' : process.arch,
}

/** Brings an image, a blob or the content of a URL into the peer of this machine before anybody pulls it. */
export async function runPreheat({ settings }: Resolved, options: PreheatOptions): Promise<number> {
  const { target, digest: wanted, platform = OWN_PLATFORM, headers, quiet } = options
  const peer = peerUrl(settings)
  const url = target.includes('://') ? new URL(target) : undefined
  const name = url === undefined ? parseImageReference(target).name : `${url.host}${url.pathname}`
  return await interruptible(NOTE, async signal => {
    const progress = process.stderr.isTTY && !quiet ? createBar(name, process.stderr) : NO_PROGRESS
    const started = performance.now()
    const common = { peer, headers, onBytes: progress.update, signal }
    const brought =
      url === undefined
        ? preheat({ ...common, image: parseImageReference(target), platform })
        : preheatUrl({ ...common, url, wanted })
    const { digest, blobs, bytes } = await brought.finally(() => progress.stop())
    const seconds = ((performance.now() - started) / 1000).toFixed(1)
    if (!quiet) {
      process.stderr.write(
        `${name}: ${blobs} ${blobs === 1 ? 'blob' : 'blobs'}, ${approximateBytes(bytes)} in ${seconds} s\n${digest}\n`,
      )
    }
    return 0
  })
}
