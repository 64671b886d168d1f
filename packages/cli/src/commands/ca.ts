import { loadOrCreateAuthority } from '@darter/peer'
import { systemClock } from '@darter/runtime'
import { authorityFile } from '../config/programs.ts'
import type { Resolved } from '../config/resolve.ts'

/** Prints the certificate that clients have to trust whose TLS ends at the forward proxy. */
export async function runCa(resolved: Resolved): Promise<number> {
  const { certificate } = await loadOrCreateAuthority(authorityFile(resolved), systemClock)
  process.stdout.write(certificate)
  return 0
}
