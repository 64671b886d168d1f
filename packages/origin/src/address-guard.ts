import { lookup as systemLookup } from 'node:dns'
import { isIP, type LookupFunction } from 'node:net'
import { quoted } from '@darter/oci'
import ipaddr from 'ipaddr.js'
import { OriginAddressError, OriginRedirectError } from './errors.ts'

/** How far inside an address lies: the internet, a private network, this machine, this link. */
const RANKS: Readonly<Record<string, number>> = {
  unicast: 0,
  private: 1,
  uniqueLocal: 1,
  carrierGradeNat: 1,
  loopback: 2,
  unspecified: 2,
  linkLocal: 3,
}

/** 0 for a public address, more the further inside it lies, infinite for one that is never a server's. */
export function addressRank(address: string): number {
  if (!ipaddr.isValid(address)) return Number.POSITIVE_INFINITY
  const parsed = ipaddr.process(address)
  const range = parsed.range()
  // NAT64 (RFC 6052): the IPv4 address behind it is in the last 32 bits.
  if (range === 'rfc6052') return addressRank(parsed.toByteArray().slice(12).join('.'))
  return RANKS[range] ?? Number.POSITIVE_INFINITY
}

/**
 * Keeps an upstream's redirects (and token servers) from leading further inside than the upstream itself lies: a
 * public registry leads to public addresses only, one on a private network also there, one on this machine anywhere
 * but to link-local addresses. Names are judged by the addresses that are really connected to.
 */
export interface AddressGuard {
  /**
   * Resolves the upstream's own name, and learns where it lies; fails with {@link OriginAddressError} if it has no address
   * within the limit.
   */
  readonly upstreamLookup: LookupFunction
  /** Resolves any other name to the addresses that are allowed; fails with {@link OriginRedirectError} if none is. */
  readonly guardedLookup: LookupFunction
  /**
   * Judges a host that is an IP address, which is never looked up.
   * @throws {OriginRedirectError} when it lies too far inside;
   * @throws {OriginAddressError} when that is the upstream's own.
   */
  checkLiteral(url: URL): void
}

/**
 * @param options.limit - the highest {@link addressRank} that the upstream itself may have; any when left out.
 * @param options.lookup - the system's resolver, or another one in tests.
 */
export function createAddressGuard(options: {
  readonly upstream: URL
  readonly limit?: number
  readonly lookup?: LookupFunction
}): AddressGuard {
  const { upstream, limit = Number.POSITIVE_INFINITY, lookup = systemLookup } = options
  const own = hostOf(upstream)
  let reach = isIP(own) ? Math.min(addressRank(own), limit) : 0

  return {
    upstreamLookup: choosing(
      lookup,
      addresses => {
        const within = addresses.filter(({ address }) => addressRank(address) <= limit)
        reach = Math.max(reach, ...within.map(({ address }) => addressRank(address)).filter(Number.isFinite))
        return within
      },
      refusal,
    ),
    guardedLookup: choosing(
      lookup,
      addresses => addresses.filter(({ address }) => addressRank(address) <= reach),
      refusal,
    ),
    checkLiteral: url => {
      const host = hostOf(url)
      if (isIP(host) && addressRank(host) > reach) throw refusal(host)
    },
  }

  function refusal(host: string): OriginRedirectError | OriginAddressError {
    if (host === own) {
      return new OriginAddressError(
        `${upstream.host} lies inside the network, where a wildcard does not reach; allow it by its own name if this is meant`,
      )
    }
    return new OriginRedirectError(
      `${upstream.host} leads to ${host}, which lies further inside the network than ${upstream.host} itself; ` +
        'configure the upstream by an address on that network if this is meant',
    )
  }
}

/** A resolver that gives the addresses that `choose` leaves over, and fails with `refusal` where that is none. */
function choosing(
  lookup: LookupFunction,
  choose: (addresses: { address: string; family: number }[]) => { address: string; family: number }[],
  refusal: (hostname: string) => Error,
): LookupFunction {
  return (hostname, settings, callback) => {
    lookup(hostname, { ...settings, all: true }, (error, found) => {
      if (error) return callback(error, [])
      const given = Array.isArray(found) ? found : [{ address: found, family: isIP(found) }]
      const chosen = choose(given)
      const [first] = chosen
      if (!first) callback(refusal(hostname), [])
      else if (settings.all) callback(null, chosen)
      else callback(null, first.address, first.family)
    })
  }
}

/** The rank of a private network: what clients reach through this machine lies no further inside. */
const OUTWARD_RANK = 1

/** Whether an address lies on the internet or a private network: not on this machine, and not link-local. */
export function isOutward(address: string): boolean {
  return addressRank(address) <= OUTWARD_RANK
}

/** Whether an operator may name the address as a place to go to: any but link-local ones and those that no server has. */
export function isNameable(address: string): boolean {
  return addressRank(address) <= OUTWARD_RANK + 1
}

/**
 * Resolves names to addresses that {@link isOutward | lie outside}; fails with {@link OriginAddressError} if none does.
 * @param lookup - the system's resolver, or another one in tests.
 */
export function createOutwardLookup(lookup: LookupFunction = systemLookup): LookupFunction {
  return choosing(
    lookup,
    addresses => addresses.filter(({ address }) => isOutward(address)),
    hostname =>
      new OriginAddressError(
        `${quoted(hostname)} leads to this machine or to a link-local address; list it by its address and port if this is meant`,
      ),
  )
}

function hostOf(url: URL): string {
  return url.hostname.replace(/^\[|\]$/g, '')
}
