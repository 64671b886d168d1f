import type { AddressForm } from './choose-upstream.ts'

/** The query that goes on to the upstream: without `ns`, byte for byte; a mount's `from` loses the path form's prefix. */
export function forwardedQuery(rawQuery: string, form: AddressForm): string {
  const parts = rawQuery.split('&').filter(part => part !== '' && nameOf(part) !== 'ns')
  return parts.map(part => (nameOf(part) === 'from' ? withoutPrefix(part, form.prefix) : part)).join('&')
}

function nameOf(part: string): string | undefined {
  const [name] = new URLSearchParams(part).keys()
  return name
}

function withoutPrefix(part: string, prefix: string): string {
  const from = new URLSearchParams(part).get('from') ?? ''
  if (prefix === '' || !from.startsWith(prefix)) return part
  return `from=${encodeURIComponent(from.slice(prefix.length))}`
}

/**
 * A `Location` below the upstream's `/v2/` as the client must ask for it to come back through the door, in the form in
 * which it came. Other locations stay as they are.
 */
export function locationThroughDoor(location: string, form: AddressForm): string {
  if (!location.startsWith('/v2/')) return location
  const hash = location.indexOf('#')
  const target = hash < 0 ? location : location.slice(0, hash)
  const prefixed = `/v2/${form.prefix}${target.slice('/v2/'.length)}`
  if (form.ns === undefined) return prefixed
  return `${prefixed}${prefixed.includes('?') ? '&' : '?'}ns=${encodeURIComponent(form.ns)}`
}

/** A `Link` header (RFC 8288), such as the one to the next page of a list, with its targets led through the door. */
export function linkThroughDoor(link: string, form: AddressForm): string {
  return link.replace(/<([^<>]*)>/g, (_, target: string) => `<${locationThroughDoor(target, form)}>`)
}
