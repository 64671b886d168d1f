import { createLogger, type Logger } from '@darter/runtime'
import type { Settings } from './config/schema.ts'

/** Loggers, by the name of the program that they speak for, that write to standard error in the configured form. */
export async function createLoggers(settings: Settings): Promise<(name: string) => Logger> {
  const level = settings['log.level']
  const format = settings['log.format']
  const text = format === 'text' || (format === 'auto' && process.stderr.isTTY)
  if (!text) return name => createLogger({ level, name })
  const { default: pretty } = await import('pino-pretty')
  const colorize = process.stderr.isTTY && process.env['NO_COLOR'] === undefined
  const destination = pretty({ destination: 2, sync: true, colorize, translateTime: 'SYS:HH:MM:ss.l' })
  return name => createLogger({ level, name, destination })
}
