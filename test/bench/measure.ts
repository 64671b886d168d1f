import { readFileSync } from 'node:fs'
import { cpus, loadavg } from 'node:os'

export const MIB = 1024 * 1024
const GIB = 1024 * MIB
/** USER_HZ, in which Linux tells CPU times to programs whatever its own clock is. */
const TICKS_PER_SECOND = 100

/** CPU seconds, user and system, that a process has used so far: fields 14 and 15 of /proc/PID/stat. */
export function cpuSeconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  // The name in parentheses may hold anything, so count from behind it.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND
}

/** One measured transfer. */
export interface Sample {
  readonly bytes: number
  readonly seconds: number
  /** Of all processes that count, together. */
  readonly cpuSeconds: number
}

/** Medians over rounds. */
export interface Summary {
  readonly mibPerSecond: number
  readonly cpuSecondsPerGiB: number
}

/** The middle number, or the mean of the two in the middle. */
export function median(numbers: readonly number[]): number {
  const sorted = numbers.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  return ((sorted[middle] ?? 0) + (sorted[(sorted.length - 1) >> 1] ?? 0)) / 2
}

/** Throughput and cost of one transfer. */
export function ratesOf({ bytes, seconds, cpuSeconds: cpu }: Sample): Summary {
  return { mibPerSecond: bytes / MIB / seconds, cpuSecondsPerGiB: cpu / (bytes / GIB) }
}

/** Medians of throughput and cost. */
export function summarize(samples: readonly Sample[]): Summary {
  const rates = samples.map(ratesOf)
  return {
    mibPerSecond: round(median(rates.map(rate => rate.mibPerSecond))),
    cpuSecondsPerGiB: round(median(rates.map(rate => rate.cpuSecondsPerGiB))),
  }
}

/** Median over the rounds of ours / theirs: each pair ran one after the other, so drift of the machine cancels out. */
export function pairedRatio(
  ours: readonly Sample[],
  theirs: readonly Sample[],
  pick: (rates: Summary) => number,
): number {
  return round(median(ours.map((our, i) => pick(ratesOf(our)) / pick(ratesOf(theirs[i]!)))))
}

/** How far apart the looks of the event loop's measure are, ms: what it says includes that. */
const LOOK_MS = 10

/** The p99 of how late a program's event loop comes to its timers since the last call, in ms. */
export async function takeLoopP99(program: { metric(name: string): Promise<number> }): Promise<number> {
  return Math.max(0, (await program.metric('nodejs_eventloop_lag_p99_seconds')) * 1000 - LOOK_MS)
}

/** Three digits behind the point. */
export function round(value: number): number {
  return Math.round(value * 1000) / 1000
}

/** What the figures were measured on; the load is the one-minute average. */
export function machine() {
  const all = cpus()
  return {
    cpus: all.length,
    cpu: all[0]?.model ?? 'unknown',
    node: process.versions.node,
    load: round(loadavg()[0] ?? 0),
  }
}

/** Tells a person how far it is: standard output is for the result. */
export function progress(text: string): void {
  process.stderr.write(`${text}\n`)
}
