// The leanest way for a Node program to serve a file over HTTP: what the door bench holds Darter against, beside nginx.
// `lean-server.ts FILE` prints its port, answers each connection's first request with FILE, and stays until it is ended.
import { fstatSync, openSync, readSync } from 'node:fs'
import { createServer, type Socket } from 'node:net'

const PIECE = 256 * 1024

const [file = ''] = process.argv.slice(2)
const fd = openSync(file, 'r')
const { size } = fstatSync(fd)

function serve(socket: Socket): void {
  const piece = Buffer.allocUnsafeSlow(PIECE)
  let position = 0
  const pump = () => {
    const length = readSync(fd, piece, 0, PIECE, position)
    position += length
    if (length > 0) socket.write(piece.subarray(0, length), pump)
    else socket.end()
  }
  socket.write(`HTTP/1.1 200 OK\r\ncontent-length: ${size}\r\nconnection: close\r\n\r\n`, pump)
}

const server = createServer({ noDelay: true }, socket => {
  socket.on('error', () => {})
  // A request without a body comes in one segment.
  socket.once('data', () => serve(socket))
})
server.listen(0, '127.0.0.1', () => {
  const address = server.address()
  console.log(address !== null && typeof address === 'object' ? address.port : 0)
})
