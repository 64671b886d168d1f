import type { Metrics } from '@darter/runtime'
import fastify, { type FastifyInstance } from 'fastify'
import type { DirectoryStatus } from './directory.ts'
import { addPreheatApi, type PreheatJobs } from './preheat-api.ts'

/** What the admin endpoint tells. */
export interface AdminSources {
  readonly metrics: Metrics
  isReady(): boolean
  /** The bearer token of {@link addPreheatApi}. */
  readonly token: string
  readonly preheats: PreheatJobs
  status(): { readonly peerId: string; readonly addresses: readonly string[] } & DirectoryStatus
}

/** The scheduler's HTTP endpoint for operators: `/healthz`, `/readyz`, `/metrics`, `/status`, and with a token `/preheats`. */
export function createAdmin(sources: AdminSources): FastifyInstance {
  const app = fastify({ logger: false, requestTimeout: 10_000, bodyLimit: 1024 })
  app.get('/healthz', () => ({ status: 'ok' }))
  app.get('/readyz', (_request, reply) =>
    reply.code(sources.isReady() ? 200 : 503).send({ status: sources.isReady() ? 'ready' : 'starting' }),
  )
  app.get('/status', () => sources.status())
  app.get('/metrics', async (_request, reply) => {
    const { contentType, body } = await sources.metrics.expose()
    return reply.type(contentType).send(body)
  })
  addPreheatApi(app, { token: sources.token, jobs: sources.preheats })
  return app
}
