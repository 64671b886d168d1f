import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Daemon, type Lab, run } from '@darter/testing'
import { UPSTREAM } from '../harness/mirror.ts'
import { type Blob, makeBlob, plantBlob } from './blob.ts'
import { linePlot } from './plot.ts'
import type { ClientResult } from './swarm-client.ts'
import { cpuSeconds, machine, median, MIB, progress, round } from './measure.ts'
import { createNetwork, type Host } from './network.ts'

const CLI = join(import.meta.dirname, '..', '..', 'packages', 'cli', 'src', 'main.ts')
const CLIENT = join(import.meta.dirname, 'swarm-client.ts')
const REPOSITORY = 'bench/swarm'
const ORIGIN_PORT = 5000
const SCHEDULER_PORT = 5005
const DOOR = '127.0.0.1:5001'
const PEER_ADMIN = '127.0.0.1:5002'
const SCHEDULER_ADMIN = '127.0.0.1:5006'
/** Until all clients are there. */
const HEAD_START_MS = 3000

interface SwarmOptions {
  readonly peers: number
  /** Of each peer's link, each way. */
  readonly bitsPerSecond: number
  readonly originBitsPerSecond: number
  /** Of the image. */
  readonly size: number
  readonly layers: number
  /**
   * An image of this size is pulled by all of them first and counts for nothing: peers are daemons, and a new Node program needs
   * about a CPU second of compiling before it is at its speed, of which some share one CPU here. 0: none is.
   */
  readonly warmUp: number
  /** Between the starts of two clients, ms; 0: all start at the same moment. */
  readonly staggerMs: number
  /** TCP's, on all hosts: one that `net.ipv4.tcp_allowed_congestion_control` of this machine names. */
  readonly congestionControl: string
  /** Where each client's progress is drawn, as SVG. */
  readonly plotFile?: string | undefined
}

/**
 * Nobody can be done sooner, in seconds from the first start: the origin sends all of it once; the last one to start takes all
 * of it over its own link; and the links of the origin and of those who have started send everything to everybody.
 */
export function boundSeconds(
  options: Pick<SwarmOptions, 'peers' | 'bitsPerSecond' | 'originBitsPerSecond' | 'size' | 'staggerMs'>,
): number {
  const { peers, size } = options
  const up = options.bitsPerSecond / 8
  const origin = options.originBitsPerSecond / 8
  const starts = Array.from({ length: peers }, (_, i) => (i * options.staggerMs) / 1000)
  const idle = starts.reduce((sum, start) => sum + start * up, 0)
  return Math.max(size / origin, starts.at(-1)! + size / up, (peers * size + idle) / (origin + peers * up))
}

interface SwarmPeer {
  readonly host: Host
  readonly daemon: Daemon
}

/** GETs from a host; the body, or undefined when there is no answer of 200. */
async function get(host: Host, url: string): Promise<string | undefined> {
  const { command, args } = host.on('curl', ['--silent', '--fail', '--max-time', '5', url])
  const { code, stdout } = await run(command, args, { codes: 'any' })
  return code === 0 ? stdout.toString('utf8') : undefined
}

/** The sum of a metric's samples whose line has `label` in it. */
function sumOf(text: string, name: string, label: string): number {
  const lines = text.split('\n').filter(line => line.startsWith(name) && line.includes(label))
  return lines.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' '))), 0)
}

async function startOrigin(lab: Lab, host: Host, blobs: readonly Blob[]): Promise<void> {
  const dir = lab.makeDir('origin')
  const storage = join(dir, 'data')
  for (const blob of blobs) plantBlob({ storage }, REPOSITORY, blob)
  const configFile = join(dir, 'config.yml')
  const config = {
    version: 0.1,
    log: { level: 'error', accesslog: { disabled: true } },
    storage: { filesystem: { rootdirectory: storage }, redirect: { disable: true } },
    http: { addr: `${host.address}:${ORIGIN_PORT}`, secret: 'not a secret', relativeurls: true },
  }
  // JSON is YAML.
  writeFileSync(configFile, JSON.stringify(config))
  await lab.start({
    name: 'origin',
    ...host.on('docker-registry', ['serve', configFile]),
    ready: async () => (await get(host, `http://${host.address}:${ORIGIN_PORT}/v2/`)) !== undefined,
  })
}

/** Starts a scheduler; returns the flags with which peers join it. */
async function startScheduler(lab: Lab, host: Host): Promise<readonly string[]> {
  const dataDir = lab.makeDir('scheduler')
  const daemon = await lab.start({
    name: 'scheduler',
    ...host.on(process.execPath, [
      ...[CLI, 'scheduler', '--data-dir', dataDir, '--log-format', 'json', '--scheduler-host', host.address],
      ...['--scheduler-port', String(SCHEDULER_PORT)],
      ...['--scheduler-admin-port', SCHEDULER_ADMIN.slice(SCHEDULER_ADMIN.indexOf(':') + 1)],
    ]),
    ready: async () => (await get(host, `http://${SCHEDULER_ADMIN}/readyz`)) !== undefined,
  })
  const said = daemon.stdout() + daemon.stderr()
  const id = new RegExp(`/tcp/${SCHEDULER_PORT}/p2p/(\\w+)`).exec(said)?.[1]
  if (id === undefined) throw new Error(`the scheduler does not say its address:\n${said}`)
  const address = `/ip4/${host.address}/tcp/${SCHEDULER_PORT}/p2p/${id}`
  return ['--scheduler', address, '--cluster-key-file', join(dataDir, 'cluster.key')]
}

async function startPeer(
  lab: Lab,
  name: string,
  host: Host,
  origin: Host,
  cluster: readonly string[],
): Promise<SwarmPeer> {
  const daemon = await lab.start({
    name,
    ...host.on(process.execPath, [
      ...[CLI, 'peer', '--data-dir', lab.makeDir(name), '--log-format', 'json', '--no-default-upstreams'],
      ...['--upstream', `${UPSTREAM}=http://${origin.address}:${ORIGIN_PORT}`, '--swarm-host', host.address],
      ...cluster,
    ]),
    ready: async () => (await get(host, `http://${PEER_ADMIN}/readyz`))?.includes('"connected"') === true,
  })
  return { host, daemon }
}

/** One client on each host, each `staggerMs` after the one before it. */
async function pullAll(
  hosts: readonly Host[],
  urls: readonly string[],
  staggerMs: number,
  timeoutMs: number,
) {
  const begin = Date.now() + HEAD_START_MS
  const results = await Promise.all(
    hosts.map(async (host, index) => {
      const times = [String(begin), String(begin + index * staggerMs)]
      const { command, args } = host.on(process.execPath, [CLIENT, ...times, ...urls])
      const { stdout } = await run(command, args, { timeoutMs })
      return JSON.parse(stdout.toString('utf8')) as ClientResult
    }),
  )
  const seconds = results.map(result => result.seconds)
  return {
    last: Math.max(...seconds),
    p50: median(seconds),
    seconds: seconds.map(round),
    firstByteMsP50: round(median(results.map(result => result.firstByteMs))),
    progress: results.map(result => result.progress),
  }
}

function peakMemory(pid: number): number {
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) * 1024
}

/** Each client's bytes over time, and those of one that reads straight from the registry. */
function plotOf(
  options: Omit<SwarmOptions, 'plotFile'>,
  bound: number,
  swarm: readonly ClientResult['progress'][],
  direct: readonly ClientResult['progress'][],
): string {
  const inMib = (progress: ClientResult['progress']) =>
    progress.map(([seconds, bytes]) => [seconds, bytes / MIB] as const)
  // What would come after three bounds is left out: it would press everything else to the left.
  const early = (progress: ClientResult['progress']) => progress.filter(([seconds]) => seconds <= 3 * bound)
  const megabits = options.bitsPerSecond / 1e6
  return linePlot({
    title: `${options.peers} machines with ${megabits} Mbit/s each pull ${options.size / MIB} MiB`,
    xLabel: 'seconds',
    yLabel: 'MiB received',
    series: [
      {
        name: 'bound',
        dashed: true,
        points: [
          [0, 0],
          [bound, options.size / MIB],
        ],
      },
      ...swarm.map((progress, index) => ({ name: `peer ${index + 1}`, points: inMib(progress) })),
      ...direct.slice(0, 1).map(progress => ({
        name: 'without Darter',
        dashed: true,
        points: inMib(early(progress)),
      })),
    ],
  })
}

/**
 * A cold image to many hosts at once over shaped links, through a peer on each host; then the same clients straight from
 * the registry.
 */
export async function measureSwarm(lab: Lab, options: SwarmOptions) {
  const { plotFile, ...scenario } = options
  const { peers: count, bitsPerSecond, originBitsPerSecond, size, layers, warmUp, staggerMs } = scenario
  const bound = boundSeconds(scenario)
  const dir = lab.makeDir('image')
  const blobs = Array.from({ length: layers }, (_, i) =>
    makeBlob(join(dir, String(i)), Math.floor(size / layers), i + 1),
  )
  const first = warmUp === 0 ? [] : [makeBlob(join(dir, 'warm-up'), warmUp, layers + 1)]
  const bytes = blobs.reduce((sum, blob) => sum + blob.size, 0)
  progress('building the network')
  const network = await createNetwork(lab, scenario.congestionControl)
  const originHost = await network.addHost(originBitsPerSecond)
  await startOrigin(lab, originHost, [...blobs, ...first])
  const cluster = await startScheduler(lab, network.hub)
  const peers: SwarmPeer[] = []
  for (let i = 1; i <= count; i++) {
    const host = await network.addHost(bitsPerSecond)
    peers.push(await startPeer(lab, `peer-${i}`, host, originHost, cluster))
  }
  const hosts = peers.map(peer => peer.host)
  const urls = (base: string, of = blobs) =>
    of.map(blob => `http://${base}${REPOSITORY}/blobs/${blob.digest}`)
  const cpu = () => peers.reduce((sum, { daemon }) => sum + cpuSeconds(daemon.pid), 0)
  const timeoutMs = Math.round(60_000 + ((count * size) / (originBitsPerSecond / 8)) * 3000)

  const metric = async (name: string, label: string) => {
    const metrics = await Promise.all(hosts.map(host => get(host, `http://${PEER_ADMIN}/metrics`)))
    return metrics.reduce((sum, text) => sum + sumOf(text ?? '', name, label), 0)
  }
  const originCounts = async () => ({
    received: await metric('darter_received_bytes_total', 'source="origin"'),
    requests: await metric('darter_origin_requests_total', ''),
    wire: await originHost.sentBytes(),
  })

  if (first.length > 0) {
    progress('warming up')
    await pullAll(hosts, urls(`${DOOR}/v2/${UPSTREAM}/`, first), 0, timeoutMs)
  }
  progress(`${count} peers; nobody can be faster than ${bound.toFixed(1)} s`)
  const before = machine()
  const [cpuBefore, originBefore] = [cpu(), await originCounts()]
  const swarm = await pullAll(hosts, urls(`${DOOR}/v2/${UPSTREAM}/`), staggerMs, timeoutMs)
  const used = cpu() - cpuBefore
  const origin = await originCounts()
  const peak = Math.max(...peers.map(({ daemon }) => peakMemory(daemon.pid)))
  progress(`last peer after ${swarm.last.toFixed(1)} s; now straight from the registry`)
  for (const { daemon } of peers) await daemon.stop()
  const direct = await pullAll(hosts, urls(`${originHost.address}:${ORIGIN_PORT}/v2/`), staggerMs, timeoutMs)
  if (plotFile !== undefined)
    writeFileSync(plotFile, plotOf(scenario, bound, swarm.progress, direct.progress))
  return {
    bench: 'swarm',
    ...scenario,
    boundSeconds: round(bound),
    lastSeconds: round(swarm.last),
    lastRatio: round(swarm.last / bound),
    p50Ratio: round(swarm.p50 / bound),
    directSeconds: round(direct.last),
    speedup: round(direct.last / swarm.last),
    originRatio: round((origin.received - originBefore.received) / bytes),
    originWireRatio: round((origin.wire - originBefore.wire) / bytes),
    originRequests: origin.requests - originBefore.requests,
    firstByteMsP50: swarm.firstByteMsP50,
    directFirstByteMsP50: direct.firstByteMsP50,
    cpuSecondsPerGiB: round(used / ((count * bytes) / (1024 * MIB))),
    peakRssMiB: round(peak / MIB),
    seconds: swarm.seconds,
    machine: { ...before, loadAfter: machine().load },
  }
}
