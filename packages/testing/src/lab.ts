import { execFileSync, spawn } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { closeSync, existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, afterEach } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { ownEnvironment } from './run.ts'
import { until } from './until.ts'

/** What one test file (or one `describe`) started and made; all of it goes when the file ends. */
export interface Lab {
  /** An empty directory below the system's temporary directory. */
  readonly dir: string
  /** What was started, ended or not. */
  readonly daemons: readonly Daemon[]
  /** Makes and names a directory below {@link dir}. */
  makeDir(name: string): string
  /** Registers something to undo at the end, last in, first out. */
  defer(undo: () => void | Promise<void>): void
  /** Starts a program that keeps running; resolves when it is ready. */
  start(options: DaemonOptions): Promise<Daemon>
  /** Undoes everything now; called by itself after the tests. */
  close(): Promise<void>
}

export interface DaemonOptions {
  /** Unique in its lab; the log's file name. */
  readonly name: string
  readonly command: string
  readonly args: readonly string[]
  readonly env?: Readonly<Record<string, string>>
  /** Polled until it returns true. */
  readonly ready: (daemon: Daemon) => boolean | Promise<boolean>
  readonly readyTimeoutMs?: number
  /** How long SIGTERM may take before SIGKILL; default 10 000. */
  readonly stopTimeoutMs?: number
}

/** A running program, known by its pid. */
export interface Daemon {
  readonly name: string
  readonly pid: number
  /** Set when it has ended: its exit code, or the signal that ended it. */
  readonly ended: number | NodeJS.Signals | undefined
  /** What it wrote so far. */
  stdout(): string
  stderr(): string
  /** Sends a signal and waits for the end. */
  kill(signal: NodeJS.Signals): Promise<void>
  /** SIGTERM, then SIGKILL when that takes too long. Returns the exit code or signal. */
  stop(): Promise<number | NodeJS.Signals>
}

const living = new Set<number>()
process.once('exit', () => {
  for (const pid of living) process.kill(pid, 'SIGKILL')
})

function tail(text: string, lines: number): string {
  const last = text.trimEnd().split('\n').slice(-lines)
  return last.map(line => (line.length > 400 ? `${line.slice(0, 400)}...` : line)).join('\n')
}

async function startDaemon(logDir: string, options: DaemonOptions): Promise<Daemon> {
  const files = { out: join(logDir, `${options.name}.out`), err: join(logDir, `${options.name}.err`) }
  const out = openSync(files.out, 'a')
  const err = openSync(files.err, 'a')
  // The kernel ends the daemon with the test process, however that ends.
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', options.command, ...options.args], {
    stdio: ['ignore', out, err],
    env: { ...ownEnvironment(), PATH: `${process.env['PATH']}:/usr/sbin:/sbin`, ...options.env },
  })
  closeSync(out)
  closeSync(err)
  let ended: number | NodeJS.Signals | undefined
  const exit = new Promise<number | NodeJS.Signals>((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', (code, signal) => {
      ended = code ?? signal ?? -1
      if (child.pid !== undefined) living.delete(child.pid)
      resolve(ended)
    })
  })
  exit.catch(() => {})
  if (child.pid === undefined) await exit
  const pid = child.pid ?? -1
  living.add(pid)
  const read = (file: string) => (existsSync(file) ? readFileSync(file, 'utf8') : '')
  const daemon: Daemon = {
    name: options.name,
    pid,
    get ended() {
      return ended
    },
    stdout: () => read(files.out),
    stderr: () => read(files.err),
    async kill(signal) {
      if (ended === undefined) child.kill(signal)
      await exit
    },
    async stop() {
      if (ended !== undefined) return ended
      child.kill('SIGTERM')
      const bound = new AbortController()
      const late = delay(options.stopTimeoutMs ?? 10_000, 'late' as const, { signal: bound.signal })
      late.catch(() => {})
      if ((await Promise.race([exit, late])) === 'late') child.kill('SIGKILL')
      bound.abort()
      return exit
    },
  }
  try {
    await until(
      `${options.name} is ready`,
      () => {
        if (ended !== undefined) throw new Error(`${options.name} ended with ${ended} before it was ready`)
        return options.ready(daemon)
      },
      { timeoutMs: options.readyTimeoutMs ?? 20_000 },
    )
  } catch (error) {
    await daemon.stop()
    throw new Error(
      `${options.name} did not start\n${tail(daemon.stdout(), 10)}\n${tail(daemon.stderr(), 30)}`,
      {
        cause: error,
      },
    )
  }
  return daemon
}

/** Container stores leave overlay mounts behind when they are ended hard. */
function unmountBelow(dir: string): void {
  const targets = readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .map(line => (line.split(' ')[1] ?? '').replaceAll('\\040', ' '))
    .filter(target => target.startsWith(`${dir}/`))
  for (const target of targets.toReversed()) execFileSync('umount', ['-l', target])
}

/**
 * A lab outside of the test runner; the caller closes it. DARTER_TEST_KEEP=1 leaves its directory in place.
 */
export function createScratch(name: string): Lab {
  const dir = mkdtempSync(join(tmpdir(), `darter-${name}-`))
  const undos: (() => void | Promise<void>)[] = []
  const daemons: Daemon[] = []
  const lab: Lab = {
    dir,
    daemons,
    makeDir(child) {
      const path = join(dir, child)
      mkdirSync(path, { recursive: true })
      return path
    },
    defer: undo => void undos.push(undo),
    async start(options) {
      const daemon = await startDaemon(lab.makeDir('logs'), options)
      daemons.push(daemon)
      lab.defer(async () => void (await daemon.stop()))
      return daemon
    },
    async close() {
      const errors: unknown[] = []
      for (let undo = undos.pop(); undo !== undefined; undo = undos.pop()) {
        try {
          await undo()
        } catch (error) {
          errors.push(error)
        }
      }
      unmountBelow(dir)
      if (process.env['DARTER_TEST_KEEP'] === '1') console.error(`kept ${dir}`)
      else rmSync(dir, { recursive: true, force: true, maxRetries: 5 })
      if (errors.length > 0) throw new AggregateError(errors, `cleaning up after ${name}`)
    },
  }
  return lab
}

/** A lab for the enclosing file or `describe`. When a test fails, the ends of all logs are printed with it. */
export function useLab(name: string): Lab {
  const lab = createScratch(name)
  afterEach(context => {
    if (!('passed' in context) || context.passed) return
    for (const daemon of lab.daemons) {
      context.diagnostic(`--- ${daemon.name} (ended: ${daemon.ended ?? 'no'})\n${tail(daemon.stderr(), 12)}`)
    }
  })
  after(() => lab.close())
  return lab
}

/** Ports below those that systems give to outgoing connections, which would take one between its choice and its use. */
const FREE_PORTS = { from: 10_240, to: 32_000 }
/** Where this process looks next: it hands out none twice, and two that run side by side begin in different places. */
let nextPort = randomInt(FREE_PORTS.from, FREE_PORTS.to)

/**
 * A loopback port that was free a moment ago and that this process has not handed out before.
 *
 * @throws Error if none of many is free.
 */
export async function freePort(): Promise<number> {
  for (let attempt = 0; attempt < 100; attempt++) {
    const port = nextPort
    nextPort = port + 1 < FREE_PORTS.to ? port + 1 : FREE_PORTS.from
    if (await isFree(port)) return port
  }
  throw new Error('no free port was found')
}

function isFree(port: number): Promise<boolean> {
  return new Promise(resolve => {
    const server = createServer()
    server.once('error', () => resolve(false))
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)))
  })
}
