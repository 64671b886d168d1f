import { createHash, timingSafeEqual } from 'node:crypto'
import { Readable } from 'node:stream'
import { delay } from '@darter/runtime'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { NoSuchPeersError, type PreheatRequest, preheatRequest } from './preheat-request.ts'
import { type PreheatView, TooManyPreheatsError } from './preheats.ts'

/** The jobs as the API reaches them. */
export interface PreheatJobs {
  /** Resolves to the id when a restart will know the job, unless the disk refused it. @throws {NoSuchPeersError} {@link TooManyPreheatsError} */
  start(request: PreheatRequest): Promise<string>
  /** Resolves as {@link start}; false when there is no such job. */
  cancel(id: string): Promise<boolean>
  view(id: string, since?: number): PreheatView | undefined
  list(): readonly Omit<PreheatView, 'peers'>[]
  /** Jobs at work now. */
  readonly running: number
}

const BODY_BYTES = 32 * 1024
/** Those who watch at the same moment, over all jobs. */
const MAX_WATCHERS = 64
const EVENT_MS = 500
/** A comment goes out after so long without an event, ms, so that nothing on the way takes the connection for dead. */
const QUIET_MS = 15_000

/**
 * `/preheats`: starts, shows, lists, watches and cancels jobs, for whoever sends the token as
 * `Authorization: Bearer TOKEN`. Nothing of a request's body is logged.
 */
export function addPreheatApi(
  app: FastifyInstance,
  options: { readonly token: string; readonly jobs: PreheatJobs },
): void {
  const { jobs } = options
  const expected = createHash('sha256').update(options.token).digest()
  let watchers = 0

  const isAllowed = ({ headers }: FastifyRequest): boolean => {
    const given = /^Bearer +(\S+)$/i.exec(headers.authorization ?? '')?.[1]
    return given !== undefined && timingSafeEqual(createHash('sha256').update(given).digest(), expected)
  }
  const refuse = (reply: FastifyReply, status: number, code: string, message: string) =>
    reply.code(status).send({ error: { code, message } })
  const unknown = (reply: FastifyReply) =>
    refuse(reply, 404, 'NO_SUCH_PREHEAT', 'there is no such preheat, or it was over long ago')

  void app.register(async scope => {
    scope.addHook('onRequest', async (request, reply) => {
      if (isAllowed(request)) return
      await refuse(
        reply.header('www-authenticate', 'Bearer realm="darter"'),
        401,
        'UNAUTHORIZED',
        'send the token of the scheduler as Authorization: Bearer TOKEN',
      )
    })
    scope.get('/preheats', () => ({ preheats: jobs.list() }))
    scope.post('/preheats', { bodyLimit: BODY_BYTES }, async (request, reply) => {
      const body = preheatRequest.safeParse(request.body)
      if (!body.success) {
        const [issue] = body.error.issues
        const where = issue?.path.join('.') || 'the body'
        return refuse(reply, 400, 'INVALID_REQUEST', `${where}: ${issue?.message ?? 'is not valid'}`)
      }
      let id: string
      try {
        id = await jobs.start(body.data)
      } catch (error) {
        if (error instanceof NoSuchPeersError) return refuse(reply, 409, error.code, error.message)
        if (error instanceof TooManyPreheatsError) return refuse(reply, 429, error.code, error.message)
        throw error
      }
      return reply.code(201).header('location', `/preheats/${id}`).send(jobs.view(id))
    })
    scope.get<{ Params: { id: string } }>(
      '/preheats/:id',
      ({ params }, reply) => jobs.view(params.id) ?? unknown(reply),
    )
    scope.delete<{ Params: { id: string } }>('/preheats/:id', async ({ params }, reply) =>
      (await jobs.cancel(params.id)) ? jobs.view(params.id) : unknown(reply),
    )
    scope.get<{ Params: { id: string } }>('/preheats/:id/events', ({ params }, reply) => {
      if (jobs.view(params.id) === undefined) return unknown(reply)
      if (watchers >= MAX_WATCHERS) {
        return refuse(reply, 429, 'TOO_MANY_WATCHERS', `${MAX_WATCHERS} watch already`)
      }
      watchers++
      const gone = new AbortController()
      reply.raw.once('close', () => {
        watchers--
        gone.abort()
      })
      return reply
        .header('content-type', 'text/event-stream')
        .header('cache-control', 'no-store')
        .send(Readable.from(events(jobs, params.id, gone.signal)))
    })
  })
}

/** A job's state at first, then what changes, until it is over (server-sent events, WHATWG HTML 9.2). */
async function* events(jobs: PreheatJobs, id: string, signal: AbortSignal): AsyncGenerator<string> {
  let since = 0
  let quietMs = 0
  for (;;) {
    const view = jobs.view(id, since)
    if (view === undefined) return
    if (view.version > since) {
      since = view.version
      quietMs = 0
      yield `data: ${JSON.stringify(view)}\n\n`
    }
    if (view.state !== 'running') return
    try {
      await delay(EVENT_MS, signal)
    } catch {
      return
    }
    quietMs += EVENT_MS
    if (quietMs < QUIET_MS) continue
    quietMs = 0
    yield ':\n\n'
  }
}
