import { type ChildProcess, spawn } from 'node:child_process'
import { createWriteStream } from 'node:fs'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { DarterError } from '@darter/oci'

const MAIN = fileURLToPath(new URL('../main.ts', import.meta.url))
const START_MS = 60_000
const STOP_MS = 5_000

/** A program of the demo that did not come up. */
export class DemoProgramError extends DarterError {
  readonly code = 'DEMO_PROGRAM'

  constructor(command: string, why: string, logFile: string) {
    super(`darter ${command} did not start (${why}); its log is ${logFile}`)
  }
}

/** A running `darter` process. */
export interface DemoProgram {
  /** The log line that told it had started. */
  readonly started: Readonly<Record<string, unknown>>
  stop(): Promise<void>
}

/** Starts `darter COMMAND ARGS` as a process of its own and waits for its log line with the message `ready`. */
export async function startProgram(
  command: string,
  args: readonly string[],
  options: { readonly ready: string; readonly logFile: string },
): Promise<DemoProgram> {
  const child = spawn(process.execPath, [MAIN, command, ...args, '--log-format', 'json'], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { PATH: process.env['PATH'], HOME: process.env['HOME'] },
  })
  const log = createWriteStream(options.logFile, { mode: 0o600 })
  child.stderr.pipe(log)
  const lines = createInterface({ input: child.stderr })
  const { promise, resolve, reject } = Promise.withResolvers<Record<string, unknown>>()
  const timer = setTimeout(() => reject(new Error('it took too long')), START_MS)
  child.once('exit', code => reject(new Error(`it ended with code ${code}`)))
  child.once('error', reject)
  lines.on('line', line => {
    const entry = parseLine(line)
    if (entry?.['msg'] === options.ready) resolve(entry)
  })
  try {
    return { started: await promise, stop: () => stop(child) }
  } catch (error) {
    await stop(child)
    throw new DemoProgramError(
      command,
      error instanceof Error ? error.message : String(error),
      options.logFile,
    )
  } finally {
    clearTimeout(timer)
  }
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return
  const ended = new Promise<void>(resolve => child.once('exit', () => resolve()))
  child.kill('SIGTERM')
  const timer = setTimeout(() => child.kill('SIGKILL'), STOP_MS)
  await ended
  clearTimeout(timer)
}

function parseLine(line: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(line)
    return typeof value === 'object' && value !== null ? { ...value } : undefined
  } catch {
    return undefined
  }
}
