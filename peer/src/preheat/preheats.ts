import type { SchedulerLink } from '@darter/exchange'
import type { Component, Logger } from '@darter/runtime'
import { withoutSecrets } from '@darter/wire'
import type { BlobReads } from '../download/contract.ts'
import type { PreheatOrder, PreheatRooms } from './contents.ts'
import { type JobState, startJob } from './job.ts'

/** Jobs at the same moment. */
const MAX_JOBS = 16
/** How often a running job says how it goes on, ms. */
const TELL_MS = 500

interface Running {
  readonly abort: AbortController
  readonly ended: Promise<void>
  /** The same job, ordered again while this run of it is being given up. */
  next: PreheatOrder | undefined
}

/** Why a job ends of which nobody is told: the next connection begins it anew. */
const GONE = new Error('the connection to the scheduler is gone')

/**
 * Does what the scheduler orders to be preheated. A job lives as long as the connection that it came by, and nothing of it, its
 * credentials least of all, any longer.
 */
export function createPreheats(options: {
  readonly scheduler: SchedulerLink
  readonly rooms: PreheatRooms & { readonly reads: BlobReads }
  readonly log: Logger
}): Component {
  const { scheduler, rooms, log } = options
  const running = new Map<string, Running>()
  const unsubscribe: (() => void)[] = []
  let stopped = false

  const run = async (order: PreheatOrder, signal: AbortSignal): Promise<void> => {
    const { job } = order
    const tell = (state: JobState) => scheduler.send({ type: 'preheat-state', job, ...state })
    const started = performance.now()
    const work = startJob(order, rooms, signal)
    let told: JobState | undefined
    const timer = setInterval(() => {
      const now = work.state()
      const isNews = now.held !== told?.held || now.failures.length !== told.failures.length
      if (isNews) tell(now)
      told = now
    }, TELL_MS)
    const last = await work.ended
    clearInterval(timer)
    if (signal.reason !== GONE) tell(last)
    const { state, held, failures } = last
    const ms = Math.round(performance.now() - started)
    log.info({ job, target: withoutSecrets(order.target), state, held, ms, failures }, 'preheat ended')
  }

  const begin = (order: PreheatOrder): void => {
    const { job } = order
    if (stopped) return
    const before = running.get(job)
    if (before !== undefined) {
      if (before.abort.signal.reason === GONE) before.next = order
      return
    }
    if (running.size >= MAX_JOBS) {
      const busy = {
        what: withoutSecrets(order.target),
        code: 'BUSY',
        message: `${MAX_JOBS} preheats run here already`,
      }
      scheduler.send({ type: 'preheat-state', job, state: 'failed', held: 0, size: 0, failures: [busy] })
      return
    }
    const abort = new AbortController()
    const ended = run(order, abort.signal)
      .catch(error => log.error({ err: error, job }, 'a preheat ended unexpectedly'))
      .finally(() => {
        const next = running.get(job)?.next
        running.delete(job)
        if (next !== undefined) begin(next)
      })
    running.set(job, { abort, ended, next: undefined })
  }

  const cancel = (job: string): void => {
    const known = running.get(job)
    if (known === undefined) return
    known.next = undefined
    known.abort.abort()
  }

  const abortAll = (): void => {
    for (const entry of running.values()) {
      entry.next = undefined
      entry.abort.abort(GONE)
    }
  }

  return {
    name: 'preheats',
    start: async () => {
      unsubscribe.push(
        scheduler.onMessage(message => {
          if (message.type === 'preheat') begin(message)
          else if (message.type === 'preheat-cancel') cancel(message.job)
        }),
        scheduler.onDown(abortAll),
      )
    },
    stop: async () => {
      stopped = true
      for (const end of unsubscribe.splice(0)) end()
      abortAll()
      await Promise.all([...running.values()].map(({ ended }) => ended))
    },
  }
}
