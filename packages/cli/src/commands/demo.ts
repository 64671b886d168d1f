import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { approximateBytes } from '@darter/runtime'
import Table from 'cli-table3'
import { request } from 'undici'
import { type DemoImage, makeImage } from '../demo/image.ts'
import { type OriginServer, startOriginServer } from '../demo/origin-server.ts'
import { type DemoProgram, startProgram } from '../demo/program.ts'
import { type PullResult, pullImage } from '../demo/pull.ts'

/** What `darter demo` was asked for. */
export interface DemoOptions {
  /** Size of the image, in bytes. */
  readonly imageBytes: number
  readonly layers: number
  /** Peer processes that pull at the same moment. */
  readonly peers: number
  /** One JSON object alone on standard output instead of progress and a table. */
  readonly json: boolean
  /** Leave the demo's directory behind. */
  readonly keep: boolean
}

/** What the demo measured. The last three were counted at the origin itself. */
interface DemoReport {
  readonly imageBytes: number
  readonly peers: readonly {
    readonly seconds: number
    readonly fromOriginBytes: number
    readonly fromPeersBytes: number
    readonly digestsOk: boolean
  }[]
  readonly originBytes: number
  /** Bytes that the origin served, over the image's size. */
  readonly originRatio: number
  readonly originRequests: number
}

interface DemoPeer {
  readonly program: DemoProgram
  readonly door: string
  readonly admin: string
}

const PROGRESS_EVERY_MS = 200
const CONNECT_MS = 60_000

/** Pulls an image of random data through several peers at once, and shows what the origin had to serve. */
export async function runDemo(options: DemoOptions): Promise<number> {
  const directory = await mkdtemp(join(tmpdir(), 'darter-demo-'))
  const say = (text: string): void => {
    if (!options.json) process.stderr.write(text)
  }
  const running: (() => Promise<void>)[] = []
  try {
    say(`Making an image of ${approximateBytes(options.imageBytes)} in ${directory}\n`)
    const image = await makeImage(join(directory, 'image'), options.imageBytes, options.layers)
    const origin = await startOriginServer(image.directory)
    running.push(() => origin.close())
    say(`Starting a scheduler and ${options.peers} peers\n`)
    const peers = await startCluster(directory, origin, options.peers, running)
    const report = await pullEverywhere(image, origin, peers, say)
    if (options.json) process.stdout.write(`${JSON.stringify(report)}\n`)
    else process.stdout.write(table(report))
    return report.peers.every(({ digestsOk }) => digestsOk) ? 0 : 1
  } finally {
    await Promise.all(running.toReversed().map(stop => stop()))
    if (options.keep) say(`Left behind: ${directory}\n`)
    else await rm(directory, { recursive: true, force: true })
  }
}

async function startCluster(
  directory: string,
  origin: OriginServer,
  count: number,
  running: (() => Promise<void>)[],
): Promise<DemoPeer[]> {
  const home = join(directory, 'scheduler')
  await mkdir(home, { mode: 0o700 })
  const scheduler = await startProgram(
    'scheduler',
    ['--data-dir', home, '--scheduler-port', '0', '--scheduler-admin-port', '0'],
    { ready: 'scheduler started', logFile: join(directory, 'scheduler.log') },
  )
  running.push(scheduler.stop)
  const [address] = scheduler.started['control'] as string[]
  const start = async (index: number): Promise<DemoPeer> => {
    const program = await startProgram(
      'peer',
      [
        ...['--data-dir', join(directory, `peer-${index}`)],
        ...['--no-default-upstreams', '--upstream', `demo=${origin.url}`],
        ...['--door-port', '0', '--admin-port', '0', '--swarm-port', '0', '--swarm-data-port', '0'],
        ...['--scheduler', String(address), '--cluster-key-file', join(home, 'cluster.key')],
      ],
      { ready: 'peer started', logFile: join(directory, `peer-${index}.log`) },
    )
    running.push(program.stop)
    const { door, admin } = program.started as Record<'door' | 'admin', { port: number }>
    return { program, door: `http://127.0.0.1:${door.port}`, admin: `http://127.0.0.1:${admin.port}` }
  }
  const peers = await Promise.all(Array.from({ length: count }, (_, index) => start(index)))
  await Promise.all(peers.map(peer => connected(peer)))
  return peers
}

/** Waits until a peer is a member of the swarm. */
async function connected(peer: DemoPeer): Promise<void> {
  const until = performance.now() + CONNECT_MS
  while (performance.now() < until) {
    if ((await status(peer)).scheduler === 'connected') return
    await new Promise(resolve => setTimeout(resolve, 50))
  }
  throw new Error('a peer did not reach the scheduler')
}

interface Status {
  readonly scheduler: string
  readonly received: { readonly fromPeers: number; readonly fromOrigin: number }
}

async function status(peer: DemoPeer): Promise<Status> {
  const response = await request(`${peer.admin}/status`)
  return (await response.body.json()) as Status
}

async function pullEverywhere(
  image: DemoImage,
  origin: OriginServer,
  peers: readonly DemoPeer[],
  say: (text: string) => void,
): Promise<DemoReport> {
  const done = peers.map(() => 0)
  const draw = (): void => {
    const bars = done.map(bytes => `${Math.floor((100 * bytes) / image.bytes)}%`.padStart(5)).join('')
    say(`\rPulling: ${bars}   origin ${(origin.bytes() / image.bytes).toFixed(2)}x `)
  }
  const timer = setInterval(draw, PROGRESS_EVERY_MS)
  let results: PullResult[]
  try {
    results = await Promise.all(
      peers.map((peer, index) =>
        pullImage({
          door: peer.door,
          image: 'demo/image',
          tag: image.tag,
          onBytes: bytes => {
            done[index] = (done[index] ?? 0) + bytes
          },
        }),
      ),
    )
  } finally {
    clearInterval(timer)
  }
  draw()
  say('\n')
  const statuses = await Promise.all(peers.map(status))
  const originBytes = origin.bytes()
  return {
    imageBytes: image.bytes,
    peers: results.map(({ seconds, bytes, digestsOk }, index) => ({
      seconds: Number(seconds.toFixed(3)),
      fromOriginBytes: statuses[index]?.received.fromOrigin ?? 0,
      fromPeersBytes: statuses[index]?.received.fromPeers ?? 0,
      digestsOk: digestsOk && bytes === image.bytes,
    })),
    originBytes,
    originRatio: Number((originBytes / image.bytes).toFixed(4)),
    originRequests: origin.requests(),
  }
}

function table(report: DemoReport): string {
  const rows = new Table({
    head: ['peer', 'seconds', 'from origin', 'from peers', 'digests'],
    colAligns: ['right', 'right', 'right', 'right', 'left'],
    style: { head: [], border: [] },
  })
  report.peers.forEach((peer, index) => {
    rows.push([
      index + 1,
      peer.seconds.toFixed(2),
      approximateBytes(peer.fromOriginBytes),
      approximateBytes(peer.fromPeersBytes),
      peer.digestsOk ? 'ok' : 'WRONG',
    ])
  })
  return [
    rows.toString(),
    `The origin served ${approximateBytes(report.originBytes)} for an image of ${approximateBytes(report.imageBytes)}: ` +
      `${report.originRatio.toFixed(3)}x, in ${report.originRequests} requests.`,
    '',
  ].join('\n')
}
