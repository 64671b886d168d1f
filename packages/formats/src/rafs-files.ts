/** Inodes that one prefetch table is followed to; what is beyond them comes with the rest. */
export const MAX_INODES = 65_536
/** Chunks of one blob that a prefetch table names. */
export const MAX_CHUNKS = 65_536

/** A part of a data blob, as a bootstrap tells it: not yet checked against the blob's size. Bytes. */
export interface BlobPart {
  readonly offset: number
  readonly length: number
}

// The type of a file in its mode: inode(7).
const TYPE_MASK = 0o170_000
const DIRECTORY = 0o040_000
const REGULAR = 0o100_000

export function isDirectory(mode: number): boolean {
  return (mode & TYPE_MASK) === DIRECTORY
}

export function isRegular(mode: number): boolean {
  return (mode & TYPE_MASK) === REGULAR
}

/**
 * The files that a prefetch table names, each once, in the table's order: an entry that is a directory stands for all
 * files below it.
 * @param children - of an inode: undefined when it is no directory; at most {@link MAX_INODES}.
 */
export function filesBelow(
  entries: readonly number[],
  children: (inode: number) => readonly number[] | undefined,
): number[] {
  const seen = new Set<number>()
  const files: number[] = []
  const stack = entries.toReversed()
  let room = MAX_INODES - entries.length
  for (let inode = stack.pop(); inode !== undefined; inode = stack.pop()) {
    if (seen.has(inode)) continue
    seen.add(inode)
    const below = children(inode)
    if (below === undefined) {
      files.push(inode)
      continue
    }
    room -= below.length
    if (room >= 0) stack.push(...below.toReversed())
  }
  return files
}
