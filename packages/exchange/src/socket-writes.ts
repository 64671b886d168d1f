import type { Socket } from 'node:net'
import type { MessageStream } from '@libp2p/interface'

/**
 * Has what is sent over a TCP connection within one turn of the event loop leave in one system call: libp2p (tcp 11.0.28)
 * makes one for each part of each message, Noise's lengths among them. A connection of another make is left as it is.
 */
export function writeOncePerTurn(connection: MessageStream): void {
  const known = connection as MessageStream & { socket?: Socket; sendData?: (data: unknown) => unknown }
  const { socket, sendData } = known
  if (typeof socket?.cork !== 'function' || typeof sendData !== 'function') return
  let corked = false
  const uncork = (): void => {
    corked = false
    socket.uncork()
  }
  known.sendData = data => {
    if (!corked) {
      corked = true
      socket.cork()
      process.nextTick(uncork)
    }
    return sendData.call(connection, data)
  }
}
