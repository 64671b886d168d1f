/** A member of a tar archive. */
export type TarEntry =
  | { readonly type: 'file'; readonly path: string; readonly mode?: number; readonly data: Buffer }
  | { readonly type: 'directory'; readonly path: string }
  | { readonly type: 'symlink'; readonly path: string; readonly target: string }

const BLOCK = 512
const TYPE_FLAGS = { file: '0', symlink: '2', directory: '5' } as const

function header(entry: TarEntry): Buffer {
  const block = Buffer.alloc(BLOCK)
  const mode = entry.type === 'file' ? (entry.mode ?? 0o644) : 0o755
  const octal = (value: number, width: number) => `${value.toString(8).padStart(width - 1, '0')}\0`
  block.write(entry.type === 'directory' ? `${entry.path}/` : entry.path, 0, 100)
  block.write(octal(mode, 8), 100)
  block.write(octal(0, 8), 108)
  block.write(octal(0, 8), 116)
  block.write(octal(entry.type === 'file' ? entry.data.length : 0, 12), 124)
  block.write(octal(0, 12), 136)
  block.write(' '.repeat(8), 148)
  block.write(TYPE_FLAGS[entry.type], 156)
  if (entry.type === 'symlink') block.write(entry.target, 157, 100)
  block.write('ustar\x0000', 257)
  const sum = block.reduce((total, byte) => total + byte, 0)
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148)
  return block
}

/** A ustar archive (POSIX.1-1988) owned by root, dated 1970: the same bytes for the same entries. */
export function tar(entries: readonly TarEntry[]): Buffer {
  const parts: Buffer[] = []
  for (const entry of entries) {
    parts.push(header(entry))
    if (entry.type !== 'file') continue
    parts.push(entry.data, Buffer.alloc((BLOCK - (entry.data.length % BLOCK)) % BLOCK))
  }
  parts.push(Buffer.alloc(2 * BLOCK))
  return Buffer.concat(parts)
}
