import { connect } from 'node:net'
import { MIB } from './measure.ts'

const BUFFER_BYTES = MIB

/** A whole body that came and was thrown away. */
export interface Discarded {
  readonly bytes: number
  /** From connecting to the last byte of the body. */
  readonly seconds: number
  /** From connecting to the first byte of the body. */
  readonly firstByteSeconds: number
}

function requestHead(url: URL): string {
  return `GET ${url.pathname} HTTP/1.1\r\nhost: ${url.host}\r\nconnection: close\r\n\r\n`
}

/**
 * The cheapest client that Node allows: one GET over a socket that reads into the same memory again and again. Nothing
 * is hashed or kept.
 * @param onBytes - called with the count of bytes of each read, head excluded.
 * @throws {Error} when the answer is not 200, has no length, or ends early.
 */
export function discard(url: URL, onBytes?: (count: number) => void): Promise<Discarded> {
  return new Promise((resolve, reject) => {
    const started = performance.now()
    let head = ''
    let length: number | undefined
    let firstByteSeconds = 0
    let bytes = 0
    const since = () => (performance.now() - started) / 1000
    const fail = (text: string) => {
      socket.destroy()
      reject(new Error(`${url.href}: ${text}`))
    }
    const body = (count: number) => {
      if (count === 0) return
      if (bytes === 0) firstByteSeconds = since()
      bytes += count
      onBytes?.(count)
      if (bytes < (length ?? 0)) return
      socket.destroy()
      resolve({ bytes, seconds: since(), firstByteSeconds })
    }
    const socket = connect({
      host: url.hostname,
      port: Number(url.port),
      onread: {
        buffer: Buffer.allocUnsafeSlow(BUFFER_BYTES),
        callback: (count, buffer) => {
          if (length !== undefined) body(count)
          else {
            head += Buffer.from(buffer.subarray(0, count)).toString('latin1')
            const end = head.indexOf('\r\n\r\n')
            if (end < 0) return true
            length = Number(/^content-length: *(\d+)\r$/im.exec(head.slice(0, end + 2))?.[1])
            if (!head.startsWith('HTTP/1.1 200 ') || !(length > 0)) fail(head.slice(0, Math.min(end, 300)))
            else body(head.length - end - 4)
          }
          return true
        },
      },
    })
    socket.on('connect', () => socket.write(requestHead(url)))
    socket.on('error', reject)
    socket.on('close', () => reject(new Error(`${url.href}: closed after ${bytes} of ${length} bytes`)))
  })
}

/** Asks for a body and does not read it: the server is kept wanting to send. Returns what ends it. */
export function askWithoutReading(url: URL): () => void {
  const socket = connect({ host: url.hostname, port: Number(url.port) })
  socket.on('connect', () => socket.write(requestHead(url)))
  socket.on('error', () => {})
  return () => void socket.destroy()
}
