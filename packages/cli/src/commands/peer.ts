import type { Resolved } from '../config/resolve.ts'

export async function runPeer(_resolved: Resolved, _own: object): Promise<number> {
  throw new Error('not there yet')
}
