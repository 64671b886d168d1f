import { DarterError } from '@darter/oci'
import { withTimeout } from './abort.ts'
import type { Logger } from './log.ts'

/** A part of a program that runs from start to stop. */
export interface Component {
  /** For logs, such as `registry door`. */
  readonly name: string
  /** Ready for use when it resolves. A component whose start failed has cleaned up after itself. */
  start(): Promise<void>
  /**
   * Ends in order: takes nothing new, finishes what runs, and resolves. When `signal` aborts the grace time is over:
   * what still runs is cut, and the promise resolves promptly.
   */
  stop(signal: AbortSignal): Promise<void>
}

/** A component that did not stop within the grace time. */
export class StopTimeoutError extends DarterError {
  readonly code = 'STOP_TIMEOUT'

  constructor(ms: number) {
    super(`stopping took longer than the grace time of ${ms} ms; what still ran was cut`)
  }
}

/**
 * Starts components in order. When one fails, those that were started are stopped in reverse, and its error is thrown.
 * Aborting `signal` prevents the components that have not begun from starting.
 * @returns a function that stops all in reverse; it resolves to the errors that occurred, and is called once.
 */
export async function startAll(
  components: readonly Component[],
  options: { readonly log: Logger; readonly graceMs: number; readonly signal: AbortSignal },
): Promise<() => Promise<readonly Error[]>> {
  const { log, graceMs, signal } = options
  const started: Component[] = []
  const stop = async () => {
    const errors: Error[] = []
    using grace = withTimeout(undefined, graceMs, () => new StopTimeoutError(graceMs))
    for (const component of started.toReversed()) {
      try {
        await component.stop(grace.signal)
        log.debug({ component: component.name }, 'stopped')
      } catch (error) {
        log.error({ err: error, component: component.name }, 'stopping failed')
        errors.push(error instanceof Error ? error : new Error(String(error)))
      }
    }
    if (grace.signal.aborted) errors.push(grace.signal.reason)
    return errors
  }
  for (const component of components) {
    try {
      signal.throwIfAborted()
      await component.start()
      started.push(component)
      log.debug({ component: component.name }, 'started')
    } catch (error) {
      await stop()
      throw error
    }
  }
  return stop
}

/** What a service needs of the process it is alone in. */
export interface ServiceProcess {
  on(event: 'SIGTERM' | 'SIGINT', handler: (signal: NodeJS.Signals) => void): unknown
  off(event: 'SIGTERM' | 'SIGINT', handler: (signal: NodeJS.Signals) => void): unknown
  exit(code: number): unknown
}

const SIGNALS = { SIGTERM: 15, SIGINT: 2 } as const

/**
 * Runs components as a service until SIGTERM or SIGINT, then stops them in order within `graceMs`. A second signal
 * ends the process at once with 128 + the signal's number, as a shell reports it.
 * @returns the exit code: 0 after a clean stop, 1 when stopping failed or took longer than `graceMs`.
 * @throws whatever a component's start throws, after those before it were stopped.
 */
export async function runService(options: {
  readonly components: readonly Component[]
  readonly log: Logger
  /** How long stopping may take before it is cut, in ms. */
  readonly graceMs: number
  /** Called once when everything has started. */
  readonly onReady?: () => void
  readonly process?: ServiceProcess
}): Promise<number> {
  const { components, log, graceMs, onReady, process: host = process } = options
  const stopping = new AbortController()
  const asked = Promise.withResolvers<void>()
  const onSignal = (signal: NodeJS.Signals) => {
    if (stopping.signal.aborted) {
      log.warn({ signal }, 'second signal: ending at once')
      host.exit(128 + (signal === 'SIGINT' ? SIGNALS.SIGINT : SIGNALS.SIGTERM))
      return
    }
    log.info({ signal, graceMs }, 'stopping')
    stopping.abort(new DOMException(`stopped by ${signal}`, 'AbortError'))
    asked.resolve()
  }
  host.on('SIGTERM', onSignal)
  host.on('SIGINT', onSignal)
  try {
    let stop: () => Promise<readonly Error[]>
    try {
      stop = await startAll(components, { log, graceMs, signal: stopping.signal })
    } catch (error) {
      if (stopping.signal.aborted && error === stopping.signal.reason) return 0
      throw error
    }
    if (!stopping.signal.aborted) onReady?.()
    await asked.promise
    const errors = await stop()
    for (const error of errors.filter(error => error instanceof StopTimeoutError)) log.warn(error.message)
    log.info('stopped')
    return errors.length === 0 ? 0 : 1
  } finally {
    host.off('SIGTERM', onSignal)
    host.off('SIGINT', onSignal)
  }
}
