import { type Digest, formatPlatform, type Platform } from '@darter/oci'
import { approximateBytes } from '@darter/runtime'
import { loadToken, parsePreheatScope, type PreheatRequest, type PreheatView } from '@darter/scheduler'
import { authority } from '../banner.ts'
import { ConfigError } from '../config/errors.ts'
import { adminTokenFile } from '../config/programs.ts'
import type { Resolved } from '../config/resolve.ts'
import { interruptible } from './interruptible.ts'
import { type Board, createBars, createLines, NO_BOARD, peerName } from '../preheat/board.ts'
import { createPreheatClient } from '../preheat/cluster.ts'
import { preheatToTheEnd } from '../preheat/follow.ts'

/** Failures that are shown; the API tells all. */
const MAX_SHOWN = 20

/** The command's own arguments. */
export interface PreheatClusterOptions {
  readonly target: string
  readonly to: string
  readonly digest?: Digest
  readonly platform?: Platform
  /** Names in lower case; only `authorization` can be given to a job. */
  readonly headers: ReadonlyMap<string, string>
  readonly quiet: boolean
}

/**
 * Has the scheduler bring something to peers, shows how it goes on, and cancels it when it is interrupted.
 * @throws {ConfigError} for options that do not fit.
 */
export async function runPreheatCluster(resolved: Resolved, options: PreheatClusterOptions): Promise<number> {
  const { settings } = resolved
  const { quiet } = options
  const order = orderOf(options)
  const host = settings['scheduler.admin.host']
  const base = `http://${authority({ host, port: settings['scheduler.admin.port'] })}`
  const client = createPreheatClient(base, await loadToken(adminTokenFile(resolved)))
  return await interruptible(
    'the preheat is cancelled, and what the peers have got is kept',
    async signal => {
      const started = performance.now()
      const board = quiet ? NO_BOARD : createBoard()
      const say = (line: string) => void process.stderr.write(`darter: ${line}\n`)
      const last = await preheatToTheEnd(client, order, { board, say, signal }).finally(() => board.stop())
      report(order.target, last, quiet, (performance.now() - started) / 1000)
      return last.state === 'done' ? 0 : 1
    },
  )
}

function orderOf({ target, to, digest, platform, headers }: PreheatClusterOptions): PreheatRequest {
  if (parsePreheatScope(to) === undefined) {
    throw new ConfigError([`--to ${to}: it must be seeds, all, zone=Z or n=K`])
  }
  const other = [...headers.keys()].find(name => name !== 'authorization')
  if (other !== undefined) {
    throw new ConfigError([`--header ${other}: with --to only Authorization can be given`])
  }
  const authorization = headers.get('authorization')
  return {
    target,
    to,
    ...(digest !== undefined && { digest }),
    ...(platform !== undefined && { platform: formatPlatform(platform) }),
    ...(authorization !== undefined && { authorization }),
  }
}

function createBoard(): Board {
  const { stderr } = process
  return stderr.isTTY ? createBars(stderr) : createLines(line => void stderr.write(line))
}

function report(
  target: string,
  { state, peers }: Pick<PreheatView, 'state' | 'peers'>,
  quiet: boolean,
  seconds: number,
): void {
  const failed = peers.filter(peer => peer.state !== 'done')
  const lines = failed.flatMap(peer => {
    const reasons = peer.failures.map(({ what, message }) => `${peerName(peer)}: ${what}: ${message}`)
    return reasons.length > 0 ? reasons : [`${peerName(peer)}: ${peer.state}`]
  })
  for (const line of lines.slice(0, MAX_SHOWN)) process.stderr.write(`darter: ${line}\n`)
  if (lines.length > MAX_SHOWN) process.stderr.write(`darter: and ${lines.length - MAX_SHOWN} more\n`)
  if (quiet && state === 'done') return
  const bytes = Math.max(0, ...peers.map(({ size }) => size))
  process.stderr.write(
    `${target}: ${approximateBytes(bytes)} at ${peers.length - failed.length} of ${peers.length} peers in ${seconds.toFixed(1)} s\n`,
  )
}
