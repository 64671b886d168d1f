import type { Resolved } from '../config/resolve.ts'

export async function runScheduler(_resolved: Resolved, _own: object): Promise<number> {
  throw new Error('not there yet')
}
