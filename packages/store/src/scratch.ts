import { constants } from 'node:fs'
import { mkdir, open, unlink } from 'node:fs/promises'
import { join } from 'node:path'

/** Room for bytes that nobody needs after the process has ended, by position, like a file without a name. */
export interface Scratch {
  /** @throws the system's error, such as ENOSPC. */
  write(position: number, bytes: Uint8Array): Promise<void>
  /** Fills `target` as far as something was written there; returns the bytes read. @throws the system's error. */
  read(position: number, target: Uint8Array): Promise<number>
  close(): Promise<void>
}

/**
 * Scratch room on the file system of `directory`, which is made when it is missing. The file has no name: whatever ends the
 * process ends it too. It takes only as much of the disk as was written.
 */
export async function createScratchFile(directory: string): Promise<Scratch> {
  await mkdir(directory, { recursive: true, mode: 0o700 })
  const path = join(directory, 'scratch')
  const flags = constants.O_RDWR | constants.O_CREAT | constants.O_TRUNC | constants.O_NOFOLLOW
  const handle = await open(path, flags, 0o600)
  await unlink(path)
  return {
    write: async (position, bytes) => {
      for (let done = 0; done < bytes.length; ) {
        const { bytesWritten } = await handle.write(bytes, done, bytes.length - done, position + done)
        done += bytesWritten
      }
    },
    read: async (position, target) => {
      let done = 0
      while (done < target.length) {
        const { bytesRead } = await handle.read(target, done, target.length - done, position + done)
        if (bytesRead === 0) break
        done += bytesRead
      }
      return done
    },
    close: () => handle.close(),
  }
}

/** Scratch room in memory. */
export function createMemoryScratch(): Scratch {
  let bytes = Buffer.alloc(0)
  return {
    write: async (position, added) => {
      const end = position + added.length
      if (end > bytes.length) bytes = Buffer.concat([bytes, Buffer.alloc(end - bytes.length)])
      bytes.set(added, position)
    },
    read: async (position, target) => {
      const part = bytes.subarray(position, position + target.length)
      target.set(part)
      return part.length
    },
    close: async () => {},
  }
}
