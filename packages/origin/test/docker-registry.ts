import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { accessSync, constants } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { createInterface } from 'node:readline'

const PROGRAM = 'docker-registry'
const START_TIMEOUT_MS = 20_000

/** A real registry in a process of its own, with nothing in it. */
export interface DockerRegistry extends AsyncDisposable {
  /** `http://127.0.0.1:port` */
  readonly url: string
}

/** Why a test that needs the real registry cannot run here: for `skip`. In CI it is never skipped but fails. */
export function withoutDockerRegistry(): string | false {
  if (process.env['CI'] === 'true') return false
  const installed = (process.env['PATH'] ?? '').split(delimiter).some(directory => {
    try {
      accessSync(join(directory, PROGRAM), constants.X_OK)
      return true
    } catch {
      return false
    }
  })
  return installed ? false : `${PROGRAM} is not installed; type: apt-get install -y ${PROGRAM}`
}

/**
 * Starts the registry on a free port with a temporary directory; both end with `await using`.
 * @param htpasswd - the lines of its password file; everyone may do everything without it.
 */
export async function startDockerRegistry(htpasswd?: string): Promise<DockerRegistry> {
  const directory = await mkdtemp(join(tmpdir(), 'darter-registry-'))
  const passwords = join(directory, 'htpasswd')
  if (htpasswd !== undefined) await writeFile(passwords, `${htpasswd}\n`)
  const configFile = join(directory, 'config.json')
  const config = {
    version: 0.1,
    log: { level: 'info', formatter: 'json', accesslog: { disabled: true } },
    storage: {
      filesystem: { rootdirectory: join(directory, 'data') },
      delete: { enabled: true },
      redirect: { disable: true },
    },
    http: { addr: '127.0.0.1:0', secret: 'for tests' },
    ...(htpasswd !== undefined && { auth: { htpasswd: { realm: 'test', path: passwords } } }),
  }
  await writeFile(configFile, JSON.stringify(config))
  const child = spawn(PROGRAM, ['serve', configFile], { stdio: ['ignore', 'ignore', 'pipe'] })
  const stop = async () => {
    if (child.pid !== undefined && child.exitCode === null && child.signalCode === null) {
      const ended = once(child, 'exit')
      child.kill('SIGKILL')
      await ended
    }
    await rm(directory, { recursive: true, force: true })
  }
  try {
    await once(child, 'spawn').catch((cause: unknown) => {
      throw new Error(`${PROGRAM} does not start; type: apt-get install -y ${PROGRAM}`, { cause })
    })
    return { url: await listeningAt(child), [Symbol.asyncDispose]: stop }
  } catch (error) {
    await stop()
    throw error
  }
}

/** The registry says in its log which port it got. */
async function listeningAt(child: ChildProcess): Promise<string> {
  assert.ok(child.stderr)
  const lines = createInterface({ input: child.stderr })
  const said: string[] = []
  const timer = setTimeout(() => lines.close(), START_TIMEOUT_MS)
  try {
    for await (const line of lines) {
      said.push(line)
      const port = /listening on 127\.0\.0\.1:(\d+)/.exec(line)?.[1]
      if (port !== undefined) return `http://127.0.0.1:${port}`
    }
  } finally {
    clearTimeout(timer)
    child.stderr.resume()
  }
  throw new Error(`${PROGRAM} did not start:\n${said.join('\n')}`)
}
