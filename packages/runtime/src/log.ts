import { type DestinationStream, type Logger as PinoLogger, pino } from 'pino'

/** A structured logger: `log.info({ blob, peer }, 'what happened')`. */
export type Logger = PinoLogger

/** From the most talkative to none. */
export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'silent'] as const
export type LogLevel = (typeof LOG_LEVELS)[number]

/**
 * A logger that writes one JSON object a line to `destination` (default: standard error). Fields that may hold credentials
 * are censored wherever they appear at the top level or one level down.
 */
export function createLogger(options: {
  readonly level: LogLevel
  readonly name: string
  readonly destination?: DestinationStream | undefined
}): Logger {
  const secrets = ['authorization', 'password', 'token', 'secret', 'clusterKey', 'identityToken']
  return pino(
    {
      name: options.name,
      level: options.level,
      base: { name: options.name },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: label => ({ level: label }) },
      redact: { paths: secrets.flatMap(field => [field, `*.${field}`]), censor: '[hidden]' },
    },
    options.destination ?? pino.destination({ fd: 2, sync: true }),
  )
}
