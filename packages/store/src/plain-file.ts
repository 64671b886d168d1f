import { constants } from 'node:fs'
import { mkdir, open } from 'node:fs/promises'
import { dirname } from 'node:path'

/** Bytes by position. Nothing of it is brought to the disk on purpose: after a power cut any part may be as it was before, or zeros. */
export interface PlainFile {
  /** @throws the system's error, such as ENOSPC. */
  write(position: number, bytes: Uint8Array): Promise<void>
  /** Fills `target` as far as the file goes; returns the bytes read. @throws the system's error. */
  read(position: number, target: Uint8Array): Promise<number>
  /** Cuts off what lies behind the first `bytes`; nothing when it is not longer. @throws the system's error. */
  trim(bytes: number): Promise<void>
  close(): Promise<void>
}

/**
 * The file at `path` (0600), made when it is missing, as is its directory (0700). It takes only as much of the disk as was written.
 * @throws the system's error.
 */
export async function openPlainFile(path: string): Promise<PlainFile> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 })
  const handle = await open(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600)
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
    trim: async bytes => {
      if ((await handle.stat()).size > bytes) await handle.truncate(bytes)
    },
    close: () => handle.close(),
  }
}

/** A file in memory. {@link PlainFile.close} leaves it as it is, to be used again. */
export function createMemoryFile(): PlainFile {
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
    trim: async length => {
      bytes = bytes.subarray(0, length)
    },
    close: async () => {},
  }
}
