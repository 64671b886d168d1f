import { freePort, type Lab } from './lab.ts'
import { pythonProgram } from './programs.ts'
import { httpStatus } from './until.ts'

/** An object store that speaks S3 (moto), in memory. */
export interface ObjectStore {
  /** `http://127.0.0.1:port` */
  readonly endpoint: string
  /**
   * From now on only requests whose signature is right are served, to users that exist and have the right; until then
   * anybody may do anything.
   */
  enforceSignatures(): Promise<void>
}

/** Starts an object store. Needs the Python program `moto_server`. */
export async function startObjectStore(lab: Lab): Promise<ObjectStore> {
  const port = await freePort()
  const endpoint = `http://127.0.0.1:${port}`
  await lab.start({
    name: 'object-store',
    command: pythonProgram('moto_server'),
    args: ['-H', '127.0.0.1', '-p', String(port)],
    ready: async () => (await httpStatus(`${endpoint}/moto-api/`)) === 200,
    readyTimeoutMs: 60_000,
  })
  return {
    endpoint,
    enforceSignatures: async () => {
      const answer = await fetch(`${endpoint}/moto-api/reset-auth`, { method: 'POST', body: '0' })
      if (!answer.ok) throw new Error(`reset-auth: ${answer.status}`)
      await answer.arrayBuffer()
    },
  }
}
