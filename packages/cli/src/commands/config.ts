import { printConfig } from '../config/print.ts'
import { peerConfig } from '../config/programs.ts'
import type { Resolved } from '../config/resolve.ts'

/** Prints the effective configuration to standard output, after the checks that `darter up` would make. */
export async function runConfig(resolved: Resolved): Promise<number> {
  await peerConfig(resolved)
  process.stdout.write(printConfig(resolved))
  return 0
}
