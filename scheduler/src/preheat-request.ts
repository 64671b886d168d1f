import { DarterError, type Digest, isDigest } from '@darter/oci'
import { rendezvousRanking } from '@darter/swarm'
import { LIMITS } from '@darter/wire'
import { z } from 'zod'

/** Which peers something is brought to. */
export type PreheatScope =
  | { readonly kind: 'seeds' }
  | { readonly kind: 'all' }
  | { readonly kind: 'zone'; readonly zone: string }
  /** So many, always the same ones for one target as long as they are there. */
  | { readonly kind: 'some'; readonly count: number }

/** Reads `seeds`, `all`, `zone=Z` or `n=K`; undefined for anything else. */
export function parsePreheatScope(text: string): PreheatScope | undefined {
  if (text === 'seeds' || text === 'all') return { kind: text }
  if (/^zone=[ -~]{1,128}$/.test(text)) return { kind: 'zone', zone: text.slice('zone='.length) }
  const count = /^n=([1-9]\d{0,5})$/.exec(text)?.[1]
  return count === undefined ? undefined : { kind: 'some', count: Number(count) }
}

/** What is to be brought where. */
export interface PreheatRequest {
  readonly target: string
  readonly digest?: Digest
  readonly platform?: string
  /** Forgotten when the job is over, and never on disk. */
  readonly authorization?: string
  readonly to: string
}

const printable = (max: number) =>
  z
    .string()
    .max(max)
    .regex(/^[ -~]*$/, 'has characters other than printable ASCII')

/** {@link PreheatRequest} as strangers may send it. */
export const preheatRequest = z.strictObject({
  target: z
    .string()
    .min(1)
    .max(LIMITS.targetChars)
    .regex(/^[!-~]*$/, 'has spaces or characters other than ASCII')
    .refine(
      text => !/^[a-z0-9]+:\/\/[^/?#]*@/i.test(text),
      'has credentials in it: say them as authorization',
    ),
  digest: z
    .custom<Digest>(value => typeof value === 'string' && isDigest(value), 'is no digest')
    .exactOptional(),
  platform: printable(64)
    .regex(/^[a-z0-9]+\/[a-z0-9_]+(\/[a-z0-9.]+)?$/, 'is no platform such as linux/amd64')
    .exactOptional(),
  to: printable(256).refine(
    text => parsePreheatScope(text) !== undefined,
    'is none of seeds, all, zone=Z and n=K',
  ),
  authorization: printable(LIMITS.authorizationChars).exactOptional(),
})

/** No peer is of the kind that was asked for. */
export class NoSuchPeersError extends DarterError {
  readonly code = 'NO_SUCH_PEERS'

  constructor(to: string) {
    super(`no peer that is connected now is meant by ${to}`)
  }
}

/** A peer that jobs can be given to. */
export interface PreheatCandidate {
  readonly id: string
  readonly zone: string
  readonly seed: boolean
}

/** Those of the peers that are meant, at least one. @throws {NoSuchPeersError} */
export function choosePeers(
  scope: PreheatScope,
  peers: readonly PreheatCandidate[],
  request: Pick<PreheatRequest, 'target' | 'to'>,
): readonly PreheatCandidate[] {
  const chosen = peers.filter(isMeant(scope, peers, request.target))
  if (chosen.length === 0) throw new NoSuchPeersError(request.to)
  return chosen
}

function isMeant(
  scope: PreheatScope,
  peers: readonly PreheatCandidate[],
  target: string,
): (peer: PreheatCandidate) => boolean {
  switch (scope.kind) {
    case 'all':
      return () => true
    case 'seeds':
      return ({ seed }) => seed
    case 'zone':
      return ({ zone }) => zone === scope.zone
    case 'some': {
      const all = peers.map(({ id }) => id)
      const ids = new Set(rendezvousRanking(all, target, scope.count))
      return ({ id }) => ids.has(id)
    }
  }
}
