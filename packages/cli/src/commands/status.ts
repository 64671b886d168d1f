import { DarterError } from '@darter/oci'
import type { PeerStatus } from '@darter/peer'
import { approximateBytes } from '@darter/runtime'
import Table from 'cli-table3'
import type { Resolved } from '../config/resolve.ts'

/** Neither a peer nor a scheduler answers on this machine. */
class NothingRunningError extends DarterError {
  readonly code = 'NOTHING_RUNNING'

  constructor(addresses: readonly string[]) {
    super(
      `neither a peer nor a scheduler answers at ${addresses.join(' or ')}; start one with \`darter up\`, or name its admin address with --admin-port and --scheduler-admin-port`,
    )
  }
}

/** What a scheduler's admin endpoint says. */
interface SchedulerStatus {
  readonly peerId: string
  readonly addresses: readonly string[]
  readonly peers: readonly {
    readonly id: string
    readonly zone: string
    readonly seed: boolean
    readonly blobs: number
  }[]
  readonly blobs: readonly {
    readonly digest: string
    readonly size: number
    readonly members: number
    readonly wanting: number
    readonly leases: number
  }[]
}

const TIMEOUT_MS = 3000
const SHOWN_ROWS = 20

/** Shows what the peer and the scheduler at the configured admin addresses say of themselves. */
export async function runStatus({ settings }: Resolved, own: { readonly json: boolean }): Promise<number> {
  const at = (host: string, port: number) => `http://${host.includes(':') ? `[${host}]` : host}:${port}`
  const peerUrl = at(settings['admin.host'], settings['admin.port'])
  const schedulerUrl = at(settings['scheduler.admin.host'], settings['scheduler.admin.port'])
  const [peer, scheduler] = await Promise.all([ask<PeerStatus>(peerUrl), ask<SchedulerStatus>(schedulerUrl)])
  if (peer === undefined && scheduler === undefined) throw new NothingRunningError([peerUrl, schedulerUrl])
  if (own.json) {
    process.stdout.write(`${JSON.stringify({ peer: peer ?? null, scheduler: scheduler ?? null })}\n`)
  } else {
    const parts = [
      peer === undefined ? `No peer answers at ${peerUrl}.\n` : peerText(peer),
      scheduler === undefined ? `No scheduler answers at ${schedulerUrl}.\n` : schedulerText(scheduler),
    ]
    process.stdout.write(parts.join('\n'))
  }
  return 0
}

/** The status that an admin endpoint tells; undefined when nothing answers there. */
async function ask<T>(url: string): Promise<T | undefined> {
  try {
    const response = await fetch(`${url}/status`, { signal: AbortSignal.timeout(TIMEOUT_MS) })
    return response.ok ? ((await response.json()) as T) : undefined
  } catch {
    return undefined
  }
}

const plain = { head: [], border: [] }

function peerText({
  peerId,
  scheduler,
  addresses,
  store,
  received,
  downloads,
  upstreams,
}: PeerStatus): string {
  const table = new Table({ style: plain })
  table.push(
    ['id', peerId === '' ? 'none (it works alone)' : peerId],
    ['door', `http://${addresses.door.host}:${addresses.door.port}`],
    [
      'forward proxy',
      addresses.proxy === undefined ? 'none' : `http://${addresses.proxy.host}:${addresses.proxy.port}`,
    ],
    ['scheduler', scheduler],
    [
      'store',
      `${approximateBytes(store.bytes)} of ${approximateBytes(store.quotaBytes)}, ${store.blobs} blobs`,
    ],
    ['from peers', approximateBytes(received.fromPeers)],
    ['from origins', approximateBytes(received.fromOrigin)],
    ['downloads', `${downloads} running`],
    ['upstreams', upstreams.map(({ name, origin }) => `${name}: ${origin}`).join('\n')],
  )
  return `Peer\n${table.toString()}\n`
}

function schedulerText({ peerId, addresses, peers, blobs }: SchedulerStatus): string {
  const members = new Table({ head: ['peer', 'zone', 'seed', 'blobs'], style: plain })
  for (const peer of peers.slice(0, SHOWN_ROWS))
    members.push([peer.id, peer.zone, peer.seed ? 'yes' : '', peer.blobs])
  const swarms = new Table({ head: ['blob', 'size', 'peers', 'want it', 'leases'], style: plain })
  for (const blob of blobs.slice(0, SHOWN_ROWS)) {
    swarms.push([blob.digest, approximateBytes(blob.size), blob.members, blob.wanting, blob.leases])
  }
  const more = (all: number) => (all > SHOWN_ROWS ? `and ${all - SHOWN_ROWS} more (--json shows all)\n` : '')
  return [
    `Scheduler ${peerId} at ${addresses.join(', ')}\n`,
    `Peers: ${peers.length}\n`,
    peers.length > 0 ? `${members.toString()}\n${more(peers.length)}` : '',
    `Blobs: ${blobs.length}\n`,
    blobs.length > 0 ? `${swarms.toString()}\n${more(blobs.length)}` : '',
  ].join('')
}
