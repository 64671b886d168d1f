import { Agent, createServer, type IncomingMessage, request as askHttp, type ServerResponse } from 'node:http'
import { lstat, unlink } from 'node:fs/promises'
import { connect } from 'node:net'
import { once } from 'node:events'
import { GetTargetError } from '../get/errors.ts'
import { PATIENCE_MS } from '../peer-client.ts'
import type { ImageBlob } from './blobs.ts'

/** A socket that gives one blob, whatever path it is asked for. */
export interface BlobSocket {
  readonly path: string
  /** Takes no more requests, cuts what still runs, and removes the socket. */
  close(): Promise<void>
}

const MAX_CONNECTIONS = 256
/** Of a socket's address on Linux, without the zero at its end (unix(7)). */
const MAX_PATH_BYTES = 107
const PASSED = ['range', 'if-range']
const TOLD = [
  'accept-ranges',
  'content-length',
  'content-range',
  'content-type',
  'docker-content-digest',
  'etag',
]

/**
 * Opens a socket (mode 0600) for nydusd's `http-proxy` backend, which asks for `/` and takes the body of whatever is
 * answered for the blob: so a failure of the peer is never answered, the connection is cut.
 * @param peer - of the peer's door.
 * @throws {GetTargetError} when something else is at the path, or another process listens there or may do so.
 */
export async function openBlobSocket(
  path: string,
  blob: ImageBlob,
  peer: { readonly host: string; readonly port: number },
): Promise<BlobSocket> {
  if (Buffer.byteLength(path) > MAX_PATH_BYTES) {
    throw new GetTargetError(
      `${path} is longer than the ${MAX_PATH_BYTES} bytes that the path of a socket may have`,
    )
  }
  const agent = new Agent({ keepAlive: true, maxSockets: MAX_CONNECTIONS })

  const pass = (request: IncomingMessage, response: ServerResponse): void => {
    const { method } = request
    if (method !== 'GET' && method !== 'HEAD') {
      response.writeHead(405, { allow: 'GET, HEAD', 'content-length': 0 }).end()
      return
    }
    const headers = Object.fromEntries(
      PASSED.flatMap(name => (request.headers[name] === undefined ? [] : [[name, request.headers[name]]])),
    )
    const asked = askHttp({ ...peer, agent, method, path: blob.path, headers, timeout: PATIENCE_MS })
    const cut = () => {
      asked.destroy()
      response.destroy()
    }
    asked.once('error', cut).once('timeout', cut)
    response.once('close', () => asked.destroy())
    asked.once('response', answer => {
      const { statusCode = 0 } = answer
      if (statusCode !== 200 && statusCode !== 206) {
        cut()
        return
      }
      const told = Object.fromEntries(
        TOLD.flatMap(name => (answer.headers[name] === undefined ? [] : [[name, answer.headers[name]]])),
      )
      response.writeHead(statusCode, told)
      answer.once('error', cut)
      answer.once('close', () => {
        if (!answer.complete) cut()
      })
      answer.pipe(response)
    })
    asked.end()
  }

  const server = createServer({ keepAliveTimeout: 75_000 }, pass)
  server.maxConnections = MAX_CONNECTIONS
  await removeStale(path)
  // Nobody else connects in the moment before the mode is set.
  const mask = process.umask(0o177)
  try {
    server.listen(path)
    await once(server, 'listening')
  } finally {
    process.umask(mask)
  }
  return {
    path,
    close: async () => {
      const closed = once(server, 'close')
      server.close()
      server.closeAllConnections()
      agent.destroy()
      await closed
    },
  }
}

/** Removes a socket that nobody listens at any more, as a killed process leaves it. */
async function removeStale(path: string): Promise<void> {
  const found = await lstat(path).catch(() => undefined)
  if (found === undefined) return
  if (!found.isSocket()) throw new GetTargetError(`${path} is there already and is no socket`)
  const failure = await new Promise<NodeJS.ErrnoException | undefined>(resolve => {
    const probe = connect(path)
    probe.once('connect', () => {
      probe.destroy()
      resolve(undefined)
    })
    probe.once('error', resolve)
  })
  if (failure?.code === 'ENOENT') return
  if (failure === undefined) throw new GetTargetError(`another process listens at ${path}`)
  // Anything else, such as a full queue or a missing right, says nothing of whether somebody listens.
  if (failure.code !== 'ECONNREFUSED') {
    throw new GetTargetError(`${path} is there already, and may be in use: ${failure.message}`, {
      cause: failure,
    })
  }
  await unlink(path)
}
