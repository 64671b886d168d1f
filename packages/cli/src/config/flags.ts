import { type Command, Option as Flag } from 'commander'
import { flagOf, type OptionKey, optionRows, type Program, variableOf } from './schema.ts'

/** The options for any of the programs, in the order of the table. */
export function optionsOf(programs: readonly Program[]): readonly OptionKey[] {
  return optionRows()
    .filter(([, row]) => row.programs.some(program => programs.includes(program)))
    .map(([key]) => key)
}

/**
 * Adds the flags of the options `keys` to a command, grouped as in the table.
 * @returns a function that tells, after parsing, which were given.
 */
export function addOptionFlags(
  command: Command,
  keys: readonly OptionKey[],
): () => ReadonlyMap<OptionKey, unknown> {
  const attributes = new Map<string, OptionKey>()
  for (const [key, row] of optionRows()) {
    if (!keys.includes(key)) continue
    const flag = flagOf(key, row)
    const notes = `(default: ${row.defaultText}; env: ${variableOf(key)})`
    const add = (flags: string, description: string): Flag => {
      const added = new Flag(flags, description).helpGroup(`${row.group}:`)
      attributes.set(added.attributeName(), key)
      command.addOption(added)
      return added
    }
    if (row.type.placeholder === '') {
      // Help shows the form that changes the default; the other one is there to overrule a file or a variable.
      const on = add(flag, `${row.description} ${notes}`)
      const off = add(flag.replace('--', '--no-'), `${row.off ?? `Not: ${row.description}`} ${notes}`)
      const idle = row.defaultText === 'true' ? on : off
      idle.hideHelp()
    } else if (row.type.many === true) {
      add(
        `${flag} <${row.type.placeholder}>`,
        `${row.description} May be given many times. ${notes}`,
      ).argParser((item: string, before: readonly string[] | undefined) => [...(before ?? []), item])
    } else {
      add(`${flag} <${row.type.placeholder}>`, `${row.description} ${notes}`)
    }
  }
  return () => {
    const given = new Map<OptionKey, unknown>()
    for (const [name, value] of Object.entries(command.opts())) {
      const key = attributes.get(name)
      if (key !== undefined && command.getOptionValueSource(name) === 'cli') given.set(key, value)
    }
    return given
  }
}
