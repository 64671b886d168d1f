import { DarterError, quoted } from '@darter/oci'

/** One thing that is wrong with the configuration, in one line. */
export type Problem = string

/** The configuration cannot be used; says everything that is wrong with it, one problem a line. */
export class ConfigError extends DarterError {
  readonly code = 'CONFIG_INVALID'
  readonly problems: readonly Problem[]

  constructor(problems: readonly Problem[], options?: ErrorOptions) {
    super(problems.join('\n'), options)
    this.problems = problems
  }
}

/** A value as it may appear in a message: short, control characters escaped, user and password of URLs left out. */
export function shownValue(value: unknown): string {
  if (value === null) return 'an empty value'
  const text = typeof value === 'string' ? value : (JSON.stringify(value) ?? typeof value)
  return quoted(text.replaceAll(/\/\/[^/\s]*@/g, '//********@'))
}
