import type { Logger, Metrics } from '@darter/runtime'
import Fastify from 'fastify'
import { boundPort, type DoorAddress } from './registry-door.ts'

/** Whether a program can do its work, and what is missing if not. */
export interface Readiness {
  readonly ready: boolean
  /** Each part by name, such as `{ store: 'open', scheduler: 'not connected' }`. */
  readonly parts: Readonly<Record<string, string>>
}

/** The door for operators: health, metrics and status. */
export interface AdminDoor {
  /** @returns the address that is bound. */
  listen(address: DoorAddress): Promise<DoorAddress>
  close(): Promise<void>
}

/**
 * `/healthz` (the process answers), `/readyz` (200 or 503 with the parts), `/metrics` (Prometheus) and `/status` (JSON).
 * It has no access control: it belongs on a loopback address or behind something that has.
 */
export function createAdminDoor(options: {
  readonly metrics: Metrics
  readonly log: Logger
  readonly readiness: () => Readiness
  /** Plain JSON data without secrets. */
  readonly status: () => unknown
}): AdminDoor {
  const { metrics, log, readiness, status } = options
  const app = Fastify({ logger: false, requestTimeout: 10_000, forceCloseConnections: true, bodyLimit: 1024 })
  app.get('/healthz', async () => ({ status: 'ok' }))
  app.get('/readyz', async (_request, reply) => {
    const state = readiness()
    return reply.code(state.ready ? 200 : 503).send(state)
  })
  app.get('/metrics', async (_request, reply) => {
    const { contentType, body } = await metrics.expose()
    return reply.header('content-type', contentType).send(body)
  })
  app.get('/status', async () => status())
  app.setErrorHandler((error, _request, reply) => {
    log.error({ err: error }, 'a request at the admin door failed')
    return reply.code(500).send({ error: 'something went wrong in this program' })
  })
  app.setNotFoundHandler((_request, reply) =>
    reply.code(404).send({ error: 'nothing here; there are /healthz, /readyz, /metrics and /status' }),
  )
  return {
    listen: async ({ host, port }) => {
      await app.listen({ host, port, listenTextResolver: () => '' })
      return { host, port: boundPort(app.server) }
    },
    close: () => app.close(),
  }
}
