// The leanest way for two Node programs to bring a file over TLS 1.3, hashed and written: what the pair bench holds
// Darter against. `send CERT KEY FILE` prints its port and serves FILE to each connection; `receive CERT PORT FILE SIZE`
// connects at SIGUSR2 and prints `{"seconds":..,"digest":..}` when FILE is on disk. Both stay until they are ended.
import { createHash } from 'node:crypto'
import { fdatasyncSync, ftruncateSync, openSync, readFileSync, readSync, writeSync } from 'node:fs'
import { type ConnectionOptions, connect, createServer } from 'node:tls'
import type { OnReadOpts } from 'node:net'

const TLS = { ciphers: 'TLS_AES_128_GCM_SHA256', minVersion: 'TLSv1.3' } as const
const PIECE = 256 * 1024
const RECEIVE = 64 * 1024
const WRITE = 1024 * 1024

function send(certFile: string, keyFile: string, file: string): void {
  const fd = openSync(file, 'r')
  const secure = { ...TLS, cert: readFileSync(certFile), key: readFileSync(keyFile) }
  const server = createServer({ ...secure, noDelay: true }, socket => {
    let position = 0
    const pump = (buffer: Buffer) => {
      const length = readSync(fd, buffer, 0, PIECE, position)
      position += length
      if (length > 0) socket.write(buffer.subarray(0, length), () => pump(buffer))
      else socket.end()
    }
    // Two at once: one is read while the other one is sent.
    for (let i = 0; i < 2; i++) pump(Buffer.allocUnsafeSlow(PIECE))
    socket.on('error', () => {})
  })
  server.listen(0, '127.0.0.1', () => {
    const address = server.address()
    console.log(address !== null && typeof address === 'object' ? address.port : 0)
  })
}

function receive(certFile: string, port: number, file: string, size: number): void {
  const hash = createHash('sha256')
  const whole = Buffer.allocUnsafeSlow(WRITE)
  const fd = openSync(file, 'wx')
  ftruncateSync(fd, size)
  let filled = 0
  let total = 0
  const flush = () => {
    const bytes = whole.subarray(0, filled)
    hash.update(bytes)
    writeSync(fd, bytes)
    filled = 0
  }
  const started = performance.now()
  const onread: OnReadOpts = {
    buffer: Buffer.allocUnsafeSlow(RECEIVE),
    callback: (count, buffer) => {
      let at = 0
      while (at < count) {
        const end = Math.min(count, at + WRITE - filled)
        whole.set(buffer.subarray(at, end), filled)
        filled += end - at
        at = end
        if (filled === WRITE) flush()
      }
      total += count
      if (total < size) return true
      flush()
      fdatasyncSync(fd)
      const seconds = (performance.now() - started) / 1000
      console.log(JSON.stringify({ seconds, digest: `sha256:${hash.digest('hex')}` }))
      return true
    },
  }
  const options: ConnectionOptions & { onread: OnReadOpts } = {
    ...TLS,
    host: '127.0.0.1',
    port,
    servername: 'localhost',
    ca: readFileSync(certFile),
    onread,
  }
  connect(options).setNoDelay(true)
}

const [what, cert = '', second = '', file = '', size = ''] = process.argv.slice(2)
if (what === 'send') send(cert, second, file)
else {
  process.once('SIGUSR2', () => receive(cert, Number(second), file, Number(size)))
  // Until it is ended.
  setInterval(() => {}, 2 ** 30)
  console.log('ready')
}
