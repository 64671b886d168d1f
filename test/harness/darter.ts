import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Daemon, freePort, httpStatus, type Lab, run } from '@darter/testing'
import { type Mirror, UPSTREAM } from './mirror.ts'

/** The command line's program. */
export const MAIN = join(import.meta.dirname, '..', '..', 'packages', 'cli', 'src', 'main.ts')

/** A line of a program's structured log. */
export interface LogLine {
  readonly level: string
  readonly msg: string
  readonly [field: string]: unknown
}

/** A running Darter program. */
export interface Darter {
  readonly daemon: Daemon
  readonly dataDir: string
  /** What it has logged so far. */
  log(): LogLine[]
  /** One metric's samples, summed over the labels that match. 0 when there is no such sample. */
  metric(name: string, labels?: Readonly<Record<string, string>>): Promise<number>
  /** The whole text of `/metrics`. */
  metrics(): Promise<string>
  /** The largest resident set so far, in bytes (VmHWM). */
  peakMemory(): number
}

export interface Scheduler extends Darter {
  /** Multiaddr with the scheduler's id. */
  readonly address: string
  readonly adminPort: number
  readonly clusterKeyFile: string
  /** Kills it and starts it again at the same address. */
  restart(signal: NodeJS.Signals): Promise<void>
}

export interface Peer extends Darter {
  /** The door with {@link UPSTREAM} in the path form. */
  readonly mirror: Mirror
  /** libp2p and data ports. */
  readonly swarmPort: number
  readonly dataPort: number
  /** Kills it and starts it again with the same data and ports; also after it ended. */
  restart(signal?: NodeJS.Signals): Promise<void>
}

export interface PeerOptions {
  readonly name: string
  /** `name=url` as `--upstream` takes them; the first one is the default upstream. */
  readonly upstreams: readonly string[]
  readonly scheduler?: Pick<Scheduler, 'address' | 'clusterKeyFile'> | undefined
  /** Whether the peer is awaited to be connected to its scheduler (default), or only to be ready. */
  readonly awaitScheduler?: boolean
  /** More flags. */
  readonly args?: readonly string[]
  /** More variables in the environment. */
  readonly env?: Readonly<Record<string, string>>
}

/** `--upstream` of the tests' upstream at an address. */
export function upstreamAt(address: string): string {
  return `${UPSTREAM}=http://${address}`
}

function parseLog(text: string): LogLine[] {
  return text.split('\n').flatMap(line => {
    if (!line.startsWith('{')) return []
    try {
      return [JSON.parse(line) as LogLine]
    } catch {
      return []
    }
  })
}

async function scrape(port: number): Promise<string> {
  const response = await fetch(`http://127.0.0.1:${port}/metrics`)
  return response.text()
}

function sumOf(text: string, name: string, labels: Readonly<Record<string, string>>): number {
  let sum = 0
  for (const line of text.split('\n')) {
    const match = /^(\w+)(?:\{(.*)\})? (\S+)/.exec(line)
    if (match?.[1] !== name) continue
    const has = (key: string, value: string) => (match[2] ?? '').split(',').includes(`${key}="${value}"`)
    if (Object.entries(labels).every(([key, value]) => has(key, value))) sum += Number(match[3])
  }
  return sum
}

async function isReady(port: number, awaitScheduler: boolean): Promise<boolean> {
  const url = `http://127.0.0.1:${port}/readyz`
  if ((await httpStatus(url)) !== 200) return false
  if (!awaitScheduler) return true
  const state = (await (await fetch(url)).json()) as { parts?: { scheduler?: string } }
  return state.parts?.scheduler === 'connected'
}

/** Starts `darter <command>` again and again with the same flags. */
async function startProgram(
  lab: Lab,
  options: {
    readonly name: string
    readonly command: string
    readonly args: readonly string[]
    readonly port: number
    readonly awaitScheduler?: boolean
    readonly env?: Readonly<Record<string, string>> | undefined
  },
) {
  const { name, port } = options
  const dataDir = lab.makeDir(name)
  let starts = 0
  let log = ''
  const start = () =>
    lab.start({
      name: starts++ === 0 ? name : `${name}-${starts}`,
      command: process.execPath,
      args: [MAIN, options.command, '--data-dir', dataDir, '--log-format', 'json', ...options.args],
      ready: () => isReady(port, options.awaitScheduler === true),
      stopTimeoutMs: 20_000,
      ...(options.env !== undefined && { env: options.env }),
    })
  let daemon = await start()
  return {
    dataDir,
    get daemon() {
      return daemon
    },
    log: () => parseLog(log + daemon.stderr()),
    metrics: () => scrape(port),
    async metric(metric: string, labels: Readonly<Record<string, string>> = {}) {
      return sumOf(await scrape(port), metric, labels)
    },
    peakMemory() {
      const status = readFileSync(`/proc/${daemon.pid}/status`, 'utf8')
      return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024
    },
    async restart(signal?: NodeJS.Signals) {
      if (signal === undefined) await daemon.stop()
      else await daemon.kill(signal)
      log += daemon.stderr()
      daemon = await start()
    },
  }
}

/** Runs a command of `darter` to its end; returns what it printed. */
export async function runDarter(command: string, args: readonly string[]): Promise<string> {
  const { stdout } = await run(process.execPath, [MAIN, command, ...args])
  return stdout.toString('utf8')
}

/** Starts a scheduler with a new identity and a new cluster key. */
export async function startScheduler(lab: Lab, name = 'scheduler'): Promise<Scheduler> {
  const [port, admin] = [await freePort(), await freePort()]
  const program = await startProgram(lab, {
    name,
    command: 'scheduler',
    args: ['--scheduler-port', String(port), '--scheduler-admin-port', String(admin)],
    port: admin,
  })
  const said = program.daemon.stdout() + program.daemon.stderr()
  const id = new RegExp(`/tcp/${port}/p2p/(\\w+)`).exec(said)?.[1]
  if (id === undefined) throw new Error(`the scheduler does not say its address:\n${said}`)
  return Object.assign(program, {
    address: `/ip4/127.0.0.1/tcp/${port}/p2p/${id}`,
    adminPort: admin,
    clusterKeyFile: join(program.dataDir, 'cluster.key'),
  })
}

async function peerFlags(options: PeerOptions) {
  const ports = [await freePort(), await freePort(), await freePort(), await freePort()] as const
  const [door, admin, swarm, data] = ports.map(String) as [string, string, string, string]
  const [first] = options.upstreams
  const flags = [
    '--no-default-upstreams',
    ...['--door-port', door, '--admin-port', admin, '--swarm-port', swarm, '--swarm-data-port', data],
    ...options.upstreams.flatMap(upstream => ['--upstream', upstream]),
    ...(first === undefined ? [] : ['--default-upstream', first.slice(0, first.indexOf('='))]),
    ...(options.args ?? []),
  ]
  const mirror: Mirror = { address: `127.0.0.1:${door}`, prefix: `${UPSTREAM}/` }
  return { flags, mirror, admin: ports[1], swarmPort: ports[2], dataPort: ports[3] }
}

/** Starts a peer with a data directory and an identity of its own. */
export async function startPeer(lab: Lab, options: PeerOptions): Promise<Peer> {
  const { flags, mirror, admin, swarmPort, dataPort } = await peerFlags(options)
  const cluster =
    options.scheduler === undefined
      ? []
      : ['--scheduler', options.scheduler.address, '--cluster-key-file', options.scheduler.clusterKeyFile]
  const program = await startProgram(lab, {
    name: options.name,
    command: 'peer',
    args: [...flags, ...cluster],
    port: admin,
    awaitScheduler: options.scheduler !== undefined && options.awaitScheduler !== false,
    env: options.env,
  })
  return Object.assign(program, { mirror, swarmPort, dataPort })
}

/** Starts what `npm start` runs: a scheduler and a peer in one process. */
export async function startUp(lab: Lab, options: Omit<PeerOptions, 'scheduler'>): Promise<Peer> {
  const { flags, mirror, admin, swarmPort, dataPort } = await peerFlags(options)
  const scheduler = [
    ...['--scheduler-port', String(await freePort())],
    ...['--scheduler-admin-port', String(await freePort())],
  ]
  const program = await startProgram(lab, {
    name: options.name,
    command: 'up',
    args: [...flags, ...scheduler],
    port: admin,
    awaitScheduler: true,
  })
  return Object.assign(program, { mirror, swarmPort, dataPort })
}
