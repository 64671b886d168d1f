import { openSync, readSync } from 'node:fs'

/** Of the thread that opens it: ns on a CPU, ns ready to run without one, time slices (Linux, `Documentation/scheduler/sched-stats.rst`). */
const SCHEDSTAT = '/proc/thread-self/schedstat'
const NS_PER_MS = 1_000_000

const text = Buffer.alloc(96)
let file: number | undefined
let waitedMs = 0

/**
 * Milliseconds, like `performance.now()`, that stand still while this thread is ready to run and gets no CPU: what an operation takes
 * by it is its own fault, or the disk's, and not that of other programs. Where the system does not tell (it takes Linux), all time counts. About 1 us.
 */
export function threadNow(): number {
  return performance.now() - waitedForCpuMs()
}

function waitedForCpuMs(): number {
  file ??= open()
  if (file < 0) return 0
  try {
    const length = readSync(file, text, 0, text.length, 0)
    const ns = Number(text.toString('latin1', 0, length).split(' ')[1])
    if (Number.isFinite(ns)) waitedMs = ns / NS_PER_MS
  } catch {
    file = -1
    waitedMs = 0
  }
  return waitedMs
}

/** The file stays open for the life of the process; -1: there is none. */
function open(): number {
  try {
    return openSync(SCHEDSTAT, 'r')
  } catch {
    return -1
  }
}
