/**
 * A preheat's target as it may be shown and kept: of a URL without its query, in which it may be signed, and without the
 * user and password before its host.
 */
export function withoutSecrets(target: string): string {
  const [bare = target] = target.split('?', 1)
  // Parsers of URLs take further slashes, and either kind, for those before the host.
  return bare.replace(/^([a-z0-9+.-]+:\/\/)[\\/]*[^\\/]*@/i, '$1')
}
