import { Document, isMap, YAMLMap } from 'yaml'
import type { Resolved } from './resolve.ts'
import { optionRows } from './schema.ts'

/**
 * The effective configuration as a YAML file that could be read again, secrets masked, with the source of each value
 * as a comment.
 */
export function printConfig({ settings, sources }: Resolved): string {
  const top = new YAMLMap()
  const document = new Document(top)
  const unset: string[] = []
  for (const [key, row] of optionRows()) {
    const value = settings[key]
    if (value === undefined) {
      unset.push(` ${key}: not set (default: ${row.defaultText})`)
      continue
    }
    const steps = key.split('.')
    const name = steps.pop()
    const parent = steps.reduce((map, step) => {
      const below = map.get(step)
      if (isMap(below)) return below
      const made = new YAMLMap()
      map.set(step, made)
      return made
    }, top)
    const many = Array.isArray(value)
    const node = document.createNode(row.type.show(value), { flow: many && value.length === 0 })
    const pair = document.createPair(name, node)
    // Beside a scalar; above a list, where a comment beside it would be taken for its first item's.
    if (many) pair.key.commentBefore = ` ${sources.get(key)}`
    else node.comment = ` ${sources.get(key)}`
    parent.items.push(pair)
  }
  if (unset.length > 0) document.comment = unset.join('\n')
  return document.toString({ lineWidth: 0 })
}
