/**
 * Puts up to `count` bytes of the file `from`, from `position` on, into the socket `to` without waiting for it: sendfile(2).
 * Returns how many it took, 0 when it takes none now or the system refuses. Both descriptors must be open.
 */
export type SendFile = (to: number, from: number, position: number, count: number) => number

/** Where `off_t` has 64 bits in whatever C library there is. */
const ARCHITECTURES = new Set(['x64', 'arm64', 'riscv64', 'loong64', 'ppc64'])

/** {@link SendFile}, which Node lacks, from the system's C library; undefined where that cannot be called. */
export async function loadSendFile(): Promise<SendFile | undefined> {
  if (process.platform !== 'linux' || !ARCHITECTURES.has(process.arch)) return undefined
  try {
    const { default: koffi } = await import('koffi')
    // The C library is a part of the program already.
    const call = koffi
      .load(null)
      .func('intptr_t sendfile(int to, int from, _Inout_ int64_t *position, size_t count)')
    return (to, from, position, count) => Math.max(0, Number(call(to, from, [position], count)))
  } catch {
    return undefined
  }
}
