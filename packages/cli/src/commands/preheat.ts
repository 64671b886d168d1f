import { parseImageReference, type Platform } from '@darter/oci'
import { approximateBytes } from '@darter/runtime'
import { peerUrl } from '../banner.ts'
import { ConfigError } from '../config/errors.ts'
import type { Resolved } from '../config/resolve.ts'
import { createBar, NO_PROGRESS } from '../get/progress.ts'
import { preheat } from '../preheat/preheat.ts'
import { interruptible } from './interruptible.ts'

/** The command's own arguments. */
export interface PreheatOptions {
  /** An image. */
  readonly target: string
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

/** Brings an image into the peer of this machine before anybody pulls it. */
export async function runPreheat({ settings }: Resolved, options: PreheatOptions): Promise<number> {
  const { target, platform = OWN_PLATFORM, headers, quiet } = options
  if (/^\w+:\/\//.test(target)) {
    throw new ConfigError([
      `${target}: a URL is brought to peers with --to, and fetched here with darter get`,
    ])
  }
  const image = parseImageReference(target)
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
