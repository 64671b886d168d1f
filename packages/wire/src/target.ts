/** A preheat's target as it may be shown and kept: without its query, in which a URL may be signed. */
export function withoutQuery(target: string): string {
  return target.split('?', 1)[0] ?? target
}
