import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { realpath } from 'node:fs/promises'
import { createServer } from 'node:net'
import { basename, dirname, join } from 'node:path'
import { GetTargetError } from './errors.ts'

/**
 * Keeps other runs on this machine from writing the same file, until the returned function is called or the process is gone, however it
 * went: a name of Linux's abstract sockets, which leaves nothing behind.
 * @throws {GetTargetError} when another run writes it.
 */
export async function lockFile(file: string): Promise<() => void> {
  const place = join(await realpath(dirname(file)), basename(file))
  const name = createHash('sha256').update(place).digest('hex')
  const server = createServer(socket => socket.destroy())
  server.unref()
  try {
    server.listen(`\0darter-get-${name}`)
    await once(server, 'listening')
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EADDRINUSE')) throw error
    throw new GetTargetError(`another \`darter get\` is writing ${file} right now`)
  }
  return () => void server.close()
}
