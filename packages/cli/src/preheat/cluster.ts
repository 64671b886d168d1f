import { DarterError } from '@darter/oci'
import type { PreheatRequest, PreheatView } from '@darter/scheduler'
import { request } from 'undici'

/** The scheduler did not do what it was asked for. */
export class SchedulerRefusedError extends DarterError {
  readonly code = 'SCHEDULER_REFUSED'
}

/** No scheduler answers. */
export class SchedulerNotRunningError extends DarterError {
  readonly code = 'SCHEDULER_NOT_RUNNING'

  constructor(address: string, cause: unknown) {
    super(
      `no scheduler answers at ${address}; name its admin address with --scheduler-admin-host and --scheduler-admin-port`,
      { cause },
    )
  }
}

const ANSWER_MS = 10_000
/** More than the time between two comments of a stream of events. */
const SILENCE_MS = 60_000
const MAX_EVENT_CHARS = 64 * 1024 * 1024

/** The scheduler does not know a job (any more). */
export class NoSuchPreheatError extends DarterError {
  readonly code = 'NO_SUCH_PREHEAT'
}

/** The preheats of a scheduler, over its API. */
export interface PreheatClient {
  /** @throws {SchedulerRefusedError} {@link SchedulerNotRunningError} */
  start(order: PreheatRequest): Promise<PreheatView>
  /**
   * How a job stands at first, then the peers that changed, until it is over or the scheduler is gone.
   * @throws {NoSuchPreheatError} {@link SchedulerNotRunningError}; what broke the connection.
   */
  watch(id: string, signal: AbortSignal): AsyncGenerator<PreheatView>
  /** A job as it stands; undefined when the scheduler does not know it (any more). @throws {SchedulerNotRunningError} */
  view(id: string, signal: AbortSignal): Promise<PreheatView | undefined>
  /** @throws {NoSuchPreheatError} {@link SchedulerNotRunningError} */
  cancel(id: string): Promise<void>
  /** The ids of the peers that are connected now. @throws {SchedulerNotRunningError} */
  connected(signal: AbortSignal): Promise<ReadonlySet<string>>
}

/** @param base - `http://host:port` of the scheduler's admin endpoint. */
export function createPreheatClient(base: string, token: string): PreheatClient {
  const headers = { authorization: `Bearer ${token}` }
  const ask = async (path: string, options: Parameters<typeof request>[1]) => {
    try {
      return await request(`${base}${path}`, { headersTimeout: ANSWER_MS, ...options })
    } catch (error) {
      const code = error instanceof Error && 'code' in error ? error.code : undefined
      throw code === 'ECONNREFUSED' ? new SchedulerNotRunningError(base, error) : error
    }
  }
  const accepted = async (answer: Awaited<ReturnType<typeof ask>>, status: number) => {
    if (answer.statusCode === status) return answer
    const text = await answer.body.text()
    if (answer.statusCode === 404) throw new NoSuchPreheatError('the scheduler knows no such preheat')
    throw new SchedulerRefusedError(
      `the scheduler refuses: ${reasonIn(text) ?? `status ${answer.statusCode}`}`,
    )
  }
  return {
    start: async order => {
      const answer = await ask('/preheats', {
        method: 'POST',
        headers: { ...headers, 'content-type': 'application/json' },
        body: JSON.stringify(order),
      })
      return (await (await accepted(answer, 201)).body.json()) as PreheatView
    },
    watch: async function* (id, signal) {
      const answer = await ask(`/preheats/${id}/events`, { headers, bodyTimeout: SILENCE_MS, signal })
      const { body } = await accepted(answer, 200)
      let rest = ''
      body.setEncoding('utf8')
      for await (const part of body as AsyncIterable<string>) {
        const events = (rest + part).split('\n\n')
        rest = events.pop() ?? ''
        if (rest.length > MAX_EVENT_CHARS)
          throw new SchedulerRefusedError('the scheduler sends an endless event')
        for (const event of events) {
          if (event.startsWith('data: ')) yield JSON.parse(event.slice('data: '.length)) as PreheatView
        }
      }
    },
    view: async (id, signal) => {
      try {
        const answer = await accepted(await ask(`/preheats/${id}`, { headers, signal }), 200)
        return (await answer.body.json()) as PreheatView
      } catch (error) {
        if (error instanceof NoSuchPreheatError) return undefined
        throw error
      }
    },
    cancel: async id => {
      const answer = await ask(`/preheats/${id}`, { method: 'DELETE', headers })
      await (await accepted(answer, 200)).body.dump()
    },
    connected: async signal => {
      const answer = await ask('/status', { signal })
      const { peers } = (await (await accepted(answer, 200)).body.json()) as {
        peers: readonly { readonly id: string }[]
      }
      return new Set(peers.map(({ id }) => id))
    },
  }
}

function reasonIn(text: string): string | undefined {
  try {
    const { error, message } = JSON.parse(text) as { error?: { message?: unknown }; message?: unknown }
    const reason = error?.message ?? message
    return typeof reason === 'string' ? reason.replaceAll(/[^ -~]/g, '?') : undefined
  } catch {
    return undefined
  }
}
