import { createLogger, type Logger } from '@darter/runtime'
import type { Settings } from './config/schema.ts'

/** A logger for standard error in the configured form. */
export async function createProgramLogger(settings: Settings, name: string): Promise<Logger> {
  const level = settings['log.level']
  const format = settings['log.format']
  const text = format === 'text' || (format === 'auto' && process.stderr.isTTY)
  if (!text) return createLogger({ level, name })
  const { default: pretty } = await import('pino-pretty')
  const colorize = process.stderr.isTTY && process.env['NO_COLOR'] === undefined
  return createLogger({
    level,
    name,
    destination: pretty({ destination: 2, sync: true, colorize, translateTime: 'SYS:HH:MM:ss.l' }),
  })
}
