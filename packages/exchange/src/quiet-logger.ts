import type { ComponentLogger, Logger } from '@libp2p/interface'

/**
 * What libp2p logs to: nowhere. Its own loggers are made anew for each connection and stream, and ask the terminal about
 * colours each time.
 */
export const quietLogger: ComponentLogger = { forComponent: () => quiet }

const quiet: Logger = Object.assign(() => {}, {
  enabled: false,
  error: () => {},
  trace: () => {},
  newScope: () => quiet,
})
