import { spawn } from 'node:child_process'

/** What a program that ended has said. */
export interface Finished {
  readonly code: number | NodeJS.Signals
  readonly stdout: Buffer
  readonly stderr: string
}

/** The environment without Darter's own variables: what a program does is decided by its test alone. */
export function ownEnvironment(): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('DARTER_')))
}

export interface RunOptions {
  /** Where it runs; default: here. */
  readonly cwd?: string
  readonly env?: Readonly<Record<string, string>>
  /** Exit codes that are fine; default [0]. `any` for all. */
  readonly codes?: readonly number[] | 'any'
  /** Hears what it writes on standard error while it runs. */
  readonly onStderr?: (text: string) => void
  /** The program is ended after this long; default 120 000. */
  readonly timeoutMs?: number
}

/**
 * Runs a program to its end.
 * @throws {Error} with what it wrote when it ends with a code that is not in `codes`.
 */
export function run(command: string, args: readonly string[], options: RunOptions = {}): Promise<Finished> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      cwd: options.cwd,
      env: { ...ownEnvironment(), PATH: `${process.env['PATH']}:/usr/sbin:/sbin`, ...options.env },
      timeout: options.timeoutMs ?? 120_000,
      killSignal: 'SIGKILL',
    })
    const out: Buffer[] = []
    const err: Buffer[] = []
    child.stdout.on('data', (chunk: Buffer) => out.push(chunk))
    child.stderr.on('data', (chunk: Buffer) => {
      err.push(chunk)
      options.onStderr?.(chunk.toString('utf8'))
    })
    child.once('error', reject)
    child.once('close', (exitCode, signal) => {
      const code = exitCode ?? signal ?? -1
      const finished = { code, stdout: Buffer.concat(out), stderr: Buffer.concat(err).toString('utf8') }
      const fine = options.codes ?? [0]
      if (fine === 'any' || (typeof code === 'number' && fine.includes(code))) return resolve(finished)
      const said = `${finished.stdout.toString('utf8').slice(-2000)}\n${finished.stderr.slice(-4000)}`
      reject(new Error(`${command} ${args.join(' ')}: ended with ${code}\n${said}`))
    })
  })
}
