import { once } from 'node:events'
import { createServer, type Server, type Socket } from 'node:net'

/** A port that is open before there is anybody to answer: who connects meanwhile waits instead of being refused. */
export interface EarlyPort {
  /** Gives the port and those who wait at it to a server, which listens from then on. Call once. */
  handTo(server: Server): Promise<void>
}

/**
 * Opens a port early in a program's start.
 * @param maxWaiting more connections than this are closed at once.
 * @returns undefined when the port cannot be bound, for whoever would listen there later to find out why.
 */
export async function openEarlyPort(
  { host, port }: { readonly host: string; readonly port: number },
  maxWaiting: number,
): Promise<EarlyPort | undefined> {
  const waiting = new Set<Socket>()
  const early = createServer({ pauseOnConnect: true, noDelay: true })
  early.maxConnections = maxWaiting
  early.on('connection', socket => {
    waiting.add(socket)
    socket.once('close', () => waiting.delete(socket))
    // Those that leave while they wait leave without a word.
    socket.on('error', () => {})
  })
  early.listen({ host, port })
  try {
    await once(early, 'listening')
  } catch {
    return undefined
  }
  return {
    handTo: async server => {
      server.listen(early)
      await once(server, 'listening')
      for (const socket of waiting) {
        server.emit('connection', socket)
        socket.resume()
      }
      waiting.clear()
    },
  }
}
