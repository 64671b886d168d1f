import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import http, { type IncomingMessage, type RequestListener, type Server, type ServerResponse } from 'node:http'
import https from 'node:https'
import { isIP } from 'node:net'

const FIXTURES = new URL('./fixtures/', import.meta.url)

/** The authority that {@link serveTls}'s certificate comes from, as PEM. */
export const testAuthority = (): Promise<string> => readFile(new URL('ca.pem', FIXTURES), 'utf8')

/** An HTTP server on a free port of this machine that keeps what it was asked. */
export interface TestServer extends AsyncDisposable {
  readonly url: string
  readonly requests: readonly IncomingMessage[]
}

/** Answers one request. What it throws ends the connection. */
export type Handler = (request: IncomingMessage, response: ServerResponse) => void | Promise<void>

export function serve(handler: Handler): Promise<TestServer> {
  return listen(listener => http.createServer(listener), 'http', '127.0.0.1', handler)
}

/** The same by TLS, with a certificate for `localhost` and `127.0.0.1` from {@link testAuthority}. */
export async function serveTls(handler: Handler): Promise<TestServer> {
  const [key, cert] = await Promise.all(
    ['server.key', 'server.pem'].map(file => readFile(new URL(file, FIXTURES))),
  )
  return listen(
    listener => https.createServer({ key: key ?? '', cert: cert ?? '' }, listener),
    'https',
    '127.0.0.1',
    handler,
  )
}

async function listen(
  create: (listener: RequestListener) => Server,
  scheme: string,
  host: string,
  handler: Handler,
): Promise<TestServer> {
  const requests: IncomingMessage[] = []
  const server = create((request, response) => {
    requests.push(request)
    response.on('error', () => {})
    Promise.resolve()
      .then(() => handler(request, response))
      .catch(() => response.destroy())
  })
  server.listen(0, host)
  await once(server, 'listening')
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('the server has no port')
  return {
    url: `${scheme}://${isIP(host) === 6 ? `[${host}]` : host}:${address.port}`,
    requests,
    [Symbol.asyncDispose]: async () => {
      const closed = once(server, 'close')
      server.close()
      server.closeAllConnections()
      await closed
    },
  }
}
