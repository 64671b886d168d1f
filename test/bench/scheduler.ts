import { type ChildProcess, fork } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { constants, setPriority } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { parseDigest } from '@darter/oci'
import type { Lab } from '@darter/testing'
import { type Scheduler, startScheduler } from '../harness/darter.ts'
import { cpuSeconds, machine, MIB, progress, round } from './measure.ts'
import type { PeersOrder, PeersReport } from './scheduler-peers.ts'

const PEERS_PROGRAM = join(import.meta.dirname, 'scheduler-peers.ts')
const BLOB = parseDigest(`sha256:${'ab'.repeat(32)}`)
/** Thousands of peers in one process are not to be held up together by its collections of garbage more than need be. */
const PEERS_FLAGS = ['--external-memory-accounted-in-global-limit', '--no-memory-reducer']
/** Handshakes that each process has under way. */
const CONNECTS_AT_ONCE = 16
const IDLE_MS = 5_000
/** Peers of the process that measures answers: few, so that it does not wait for itself. */
const PROBING_PEERS = 32

interface SchedulerOptions {
  readonly peers: number
  readonly processes: number
  readonly zones: number
  /** Of the one blob that all pull. */
  readonly size: number
  /** Peers join within this time, s. */
  readonly joinSeconds: number
  /** Each has everything this long after it joined, s. */
  readonly pullSeconds: number
  /** In the end the scheduler is killed and started again, and all come back at once. */
  readonly restart: boolean
}

/** Quantiles in ms. */
function quantiles(times: readonly number[]) {
  const sorted = times.toSorted((a, b) => a - b)
  const at = (part: number): number =>
    round(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? 0)
  return { count: sorted.length, p50: at(0.5), p99: at(0.99), max: at(1) }
}

function order(child: ChildProcess, what: PeersOrder): Promise<PeersReport> {
  return new Promise((resolve, reject) => {
    child.once('message', message => resolve(message as PeersReport))
    child.once('exit', code => reject(new Error(`a process of peers ended with ${code}`)))
    child.send(what)
  })
}

function residentBytes(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) * 1024
}

/** The event loop's delays are counted from one reading to the next. */
async function scrape(scheduler: Scheduler) {
  const lines = (await scheduler.metrics()).split('\n')
  const sum = (name: string): number =>
    lines
      .filter(line => line.startsWith(name))
      .reduce((total, line) => total + Number(line.split(' ').at(-1)), 0)
  return {
    decisions: sum('darter_scheduler_decision_seconds_count'),
    loopP99: sum('nodejs_eventloop_lag_p99_seconds'),
    longestPause: sum('nodejs_eventloop_lag_max_seconds'),
  }
}

/** One scheduler and thousands of peers that speak its protocol over loopback: what its answers take, and cost. */
export async function measureScheduler(lab: Lab, options: SchedulerOptions) {
  const { peers, processes, zones, size, joinSeconds, pullSeconds, restart } = options
  const before = machine()
  const scheduler = await startScheduler(lab)
  let { pid } = scheduler.daemon
  const children = Array.from({ length: processes + 1 }, () => fork(PEERS_PROGRAM, { execArgv: PEERS_FLAGS }))
  // In a real roll-out thousands of peers do not share the scheduler's cores. Those who measure answers do, as it does.
  for (const { pid: crowd } of children.slice(0, processes)) {
    if (crowd !== undefined) setPriority(crowd, constants.priority.PRIORITY_BELOW_NORMAL)
  }
  lab.defer(() => {
    for (const child of children) child.kill('SIGKILL')
  })
  const all = (what: (i: number) => PeersOrder) =>
    Promise.all(children.map((child, i) => order(child, what(i))))
  const probing = Math.min(PROBING_PEERS, peers - processes)
  const crowd = peers - probing
  const shareOf = (i: number): number =>
    i === processes
      ? probing
      : Math.floor((crowd * (i + 1)) / processes) - Math.floor((crowd * i) / processes)
  const idleRss = residentBytes(pid)
  const peersCpu = (): number => children.reduce((sum, child) => sum + cpuSeconds(child.pid ?? 0), 0)
  /** What the scheduler did while something else went on. */
  const during = async <T>(run: () => Promise<T>) => {
    const earlier = await scrape(scheduler)
    const [from, cpu, peersFrom] = [performance.now(), cpuSeconds(pid), peersCpu()]
    const result = await run()
    const seconds = (performance.now() - from) / 1000
    const [cpuUsed, peersCpuUsed] = [cpuSeconds(pid) - cpu, peersCpu() - peersFrom]
    const later = await scrape(scheduler)
    return {
      result,
      seconds,
      cpuUsed,
      peersCpuUsed,
      decisions: later.decisions - earlier.decisions,
      loopP99: later.loopP99,
      longestPause: later.longestPause,
    }
  }

  progress(`making ${peers} peers`)
  await all(i => ({
    phase: 'make',
    options: {
      dir: lab.makeDir(`peers-${i}`),
      scheduler: scheduler.address,
      clusterKeyFile: scheduler.clusterKeyFile,
      count: shareOf(i),
      host: `127.0.0.${10 + i}`,
      zones,
      blob: BLOB,
      size,
    },
  }))
  progress('connecting them')
  const connected = await during(() => all(() => ({ phase: 'connect', atOnce: CONNECTS_AT_ONCE })))
  const rss = residentBytes(pid)
  progress('connected; resting')
  const idle = await during(() => delay(IDLE_MS))
  progress('pulling')
  const pulled = await during(() =>
    all(i => ({
      phase: 'pull',
      joinMs: joinSeconds * 1000,
      pullMs: pullSeconds * 1000,
      probes: i === processes,
    })),
  )
  const rssAfter = residentBytes(pid)
  const lost = (reports: readonly PeersReport[]) => reports.reduce((sum, report) => sum + report.lost, 0)
  const comeBack = async () => {
    progress('the scheduler is killed')
    const from = performance.now()
    // Those of the peers who ask first are told of the phase before anything ends.
    const back = all(() => ({ phase: 'back' }))
    await scheduler.restart('SIGKILL')
    ;({ pid } = scheduler.daemon)
    const cpu = cpuSeconds(pid)
    const reports = await back
    return {
      restartSeconds: round((performance.now() - from) / 1000),
      restartCpuMsPerPeer: round(((cpuSeconds(pid) - cpu) / peers) * 1000),
      restartAwayMs: quantiles(reports.flatMap(report => report.back ?? [])),
      restartRefused: await scheduler.metric('darter_scheduler_refused_total'),
      restartLostConnections: lost(reports) - lost(pulled.result) - peers,
    }
  }
  const times = (pick: (report: PeersReport) => readonly number[] | undefined) =>
    quantiles(pulled.result.flatMap(report => pick(report) ?? []))
  const sum = (pick: (report: PeersReport) => number | undefined) =>
    pulled.result.reduce((total, report) => total + (pick(report) ?? 0), 0)
  return {
    bench: 'scheduler',
    ...options,
    connectSeconds: round(connected.seconds),
    connectCpuMsPerPeer: round((connected.cpuUsed / peers) * 1000),
    connectPeersCpuMsPerPeer: round((connected.peersCpuUsed / peers) * 1000),
    connectMs: quantiles(connected.result.flatMap(report => report.connect ?? [])),
    idleCpu: round(idle.cpuUsed / idle.seconds),
    pullSeconds: pullSeconds,
    tookSeconds: round(pulled.seconds),
    decisionsPerSecond: round(pulled.decisions / pulled.seconds),
    cpu: round(pulled.cpuUsed / pulled.seconds),
    peersCpu: round(pulled.peersCpuUsed / pulled.seconds),
    cpuSecondsPer1000Peers: round((pulled.cpuUsed / peers) * 1000),
    cpuMicrosecondsPerDecision: round((pulled.cpuUsed / pulled.decisions) * 1e6),
    joinToNeighboursMs: times(report => report.neighbours),
    demandToLeaseMs: times(report => report.lease),
    askToAnswerMs: times(report => report.answer),
    eventLoopP99Ms: round(pulled.loopP99 * 1000),
    longestPauseMs: round(pulled.longestPause * 1000),
    peersLongestPauseMs: round(Math.max(...pulled.result.map(report => report.longestPauseMs ?? 0))),
    rssMiB: round(rssAfter / MIB),
    rssMiBPer1000Peers: round(((rss - idleRss) / MIB / peers) * 1000),
    leases: sum(report => report.leases),
    leasedChunks: sum(report => report.leasedChunks),
    lostConnections: lost(pulled.result),
    ...(restart && (await comeBack())),
    machine: { ...before, loadAfter: machine().load },
  }
}
