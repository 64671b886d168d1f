import { type Resolved, resolveSettings } from './resolve.ts'
import type { Environment, OptionKey } from './schema.ts'
import { findConfigFile, readConfigFile, readEnvironment, readFlags } from './sources.ts'

/**
 * The options' values from flags, environment, configuration file and defaults, in this order of precedence.
 * @throws {ConfigError}
 */
export async function loadSettings(options: {
  readonly flags: ReadonlyMap<OptionKey, unknown>
  /** The file that `--config` names. */
  readonly configFile: string | undefined
  readonly env: Environment
}): Promise<Resolved> {
  const { flags, configFile, env } = options
  const file = await findConfigFile(configFile ?? env['DARTER_CONFIG'])
  const sources = [readFlags(flags), readEnvironment(env)]
  if (file !== undefined) sources.push(await readConfigFile(file))
  return resolveSettings(sources, env)
}
