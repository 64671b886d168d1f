import { createHash } from 'node:crypto'
import { stat } from 'node:fs/promises'
import { basename, join, resolve } from 'node:path'
import type { Digest } from '@darter/oci'
import { approximateBytes } from '@darter/runtime'
import { peerUrl } from '../banner.ts'
import type { Resolved } from '../config/resolve.ts'
import { GetTargetError } from '../get/errors.ts'
import { type Fetched, fetchInto } from '../get/fetch.ts'
import type { Sink } from '../get/part-file.ts'
import { createBar, NO_PROGRESS } from '../get/progress.ts'
import { createSource } from '../get/source.ts'
import { toFile } from '../get/to-file.ts'
import { interruptible } from './interruptible.ts'

/** The command's own arguments. */
export interface GetOptions {
  readonly url: URL
  /** A file, a directory, or `-` for standard output; undefined: a file with the URL's last name, here. */
  readonly output: string | undefined
  readonly digest: Digest | undefined
  /** For the origin; names in lower case. */
  readonly headers: ReadonlyMap<string, string>
  readonly quiet: boolean
}

/** Fetches a URL through the peer of this machine into a file or to standard output. */
export async function runGet({ settings }: Resolved, options: GetOptions): Promise<number> {
  const { url, digest: wanted, headers, quiet } = options
  const target = options.output === '-' ? undefined : await targetOf(options.output, url)
  const name = target === undefined ? basename(url.pathname) : basename(target)
  return await interruptible('the same command goes on from here', async signal => {
    const source = createSource({
      peer: peerUrl(settings),
      path: `/url/${encodeURIComponent(url.href)}`,
      wanted,
      headers,
      credentials: '--header',
    })
    const progress = process.stderr.isTTY && !quiet ? createBar(name, process.stderr) : NO_PROGRESS
    const started = performance.now()
    const fetch = (sink: Sink) =>
      fetchInto({ source, sink, sourceId: sourceIdOf(url), wanted, progress, signal })
    let fetched: Fetched
    try {
      fetched = target === undefined ? await fetch(standardOutput()) : await toFile(target, fetch)
    } finally {
      progress.stop()
      await source.close()
    }
    if (!quiet) process.stderr.write(summary(target ?? name, fetched, performance.now() - started))
    return 0
  })
}

/** Bytes that are written cannot be taken back, so that nothing may start anew after the first one. */
function standardOutput(): Sink {
  let written = 0
  // Whoever writes is told; without a listener it would end the program.
  process.stdout.on('error', () => {})
  return {
    length: 0,
    identity: undefined,
    read: async function* () {},
    write: async bytes => {
      written += bytes.length
      await new Promise<void>((done, fail) =>
        process.stdout.write(bytes, error => (error ? fail(error) : done())),
      )
    },
    begin: async () => {
      if (written === 0) return
      throw new GetTargetError(
        `the content changed after ${written} bytes of it were written to standard output`,
      )
    },
  }
}

async function targetOf(output: string | undefined, url: URL): Promise<string> {
  if (output === undefined) return resolve(nameOf(url))
  const found = await stat(output).catch(() => undefined)
  return found?.isDirectory() === true ? join(resolve(output), nameOf(url)) : resolve(output)
}

/** The last name of the URL's path. @throws {GetTargetError} when it is none that a file can have. */
function nameOf(url: URL): string {
  const last = url.pathname.split('/').at(-1) ?? ''
  let name: string
  try {
    name = decodeURIComponent(last)
  } catch {
    name = last
  }
  if (
    name === '' ||
    name === '.' ||
    name === '..' ||
    /[/\p{Cc}]/u.test(name) ||
    Buffer.byteLength(name) > 240
  ) {
    throw new GetTargetError('the URL does not end in the name of a file: say where to with --output')
  }
  return name
}

function sourceIdOf({ protocol, host, pathname }: URL): string {
  return createHash('sha256').update(`${protocol}//${host}${pathname}`).digest('hex')
}

function summary(target: string, { size, kept, digest, shares }: Fetched, ms: number): string {
  const all = shares.fromDisk + shares.fromPeers + shares.fromOrigin
  const part = (bytes: number) => `${Math.round((100 * bytes) / Math.max(1, all))}%`
  const rate = `${approximateBytes((size - kept) / Math.max(0.001, ms / 1000))}/s`
  const from =
    all === 0
      ? ''
      : `; ${part(shares.fromPeers)} from peers, ${part(shares.fromDisk)} from this machine, ${part(shares.fromOrigin)} from the origin`
  const resumed = kept === 0 ? '' : `, ${approximateBytes(kept)} of them there already`
  return `${target}: ${approximateBytes(size)}${resumed} in ${(ms / 1000).toFixed(1)} s, ${rate}${from}\n${digest}\n`
}
