import { type Lab, run } from '@darter/testing'

/** A machine of its own as far as the network goes: a namespace with one shaped link to a switch. */
export interface Host {
  /** Its IPv4 address. */
  readonly address: string
  /** Turns a command into one that runs on this host. */
  on(command: string, args: readonly string[]): { readonly command: string; readonly args: readonly string[] }
  /** Bytes that have left over its link, headers of all layers included. */
  sentBytes(): Promise<number>
}

/** A switch with hosts. */
export interface Network {
  /** The switch as a host; what runs there is not shaped at its own end. */
  readonly hub: Host
  /** Adds a host whose link carries `bitsPerSecond` each way. */
  addHost(bitsPerSecond: number): Promise<Host>
}

/**
 * A network in namespaces of its own, taken down with the lab; nothing is changed outside of them. Links are shaped at
 * both ends by `tbf`, and TCP has this congestion control in all of them, whatever the machine's own is. Needs root.
 */
export async function createNetwork(lab: Lab, congestionControl: string): Promise<Network> {
  const prefix = `darter-${process.pid}`
  let count = 0
  const addNamespace = async (name: string) => {
    const namespace = `${prefix}-${name}`
    await run('ip', ['netns', 'add', namespace])
    lab.defer(async () => void (await run('ip', ['netns', 'del', namespace])))
    await run('ip', ['-n', namespace, 'link', 'set', 'lo', 'up'])
    const command = 'echo "$1" > /proc/sys/net/ipv4/tcp_congestion_control'
    await run('ip', ['netns', 'exec', namespace, 'sh', '-c', command, 'sh', congestionControl])
    return namespace
  }
  const hostIn = (namespace: string, device: string, address: string): Host => ({
    address,
    on: (command, args) => ({ command: 'ip', args: ['netns', 'exec', namespace, command, ...args] }),
    sentBytes: async () => {
      const said = await run('ip', ['-n', namespace, '-json', '-statistics', 'link', 'show', device])
      const [link] = JSON.parse(said.stdout.toString('utf8')) as { stats64: { tx: { bytes: number } } }[]
      return link?.stats64.tx.bytes ?? 0
    },
  })
  const shape = (namespace: string, device: string, bitsPerSecond: number) =>
    run('tc', [
      ...['-n', namespace, 'qdisc', 'add', 'dev', device, 'root', 'tbf'],
      ...['rate', `${bitsPerSecond}bit`, 'burst', '256kb', 'latency', '50ms'],
    ])

  const hub = await addNamespace('hub')
  await run('ip', ['-n', hub, 'link', 'add', 'br0', 'type', 'bridge'])
  await run('ip', ['-n', hub, 'address', 'add', '10.77.0.1/24', 'dev', 'br0'])
  await run('ip', ['-n', hub, 'link', 'set', 'br0', 'up'])
  return {
    hub: hostIn(hub, 'br0', '10.77.0.1'),
    addHost: async bitsPerSecond => {
      const number = ++count
      const address = `10.77.0.${number + 1}`
      const port = `v${number}`
      const namespace = await addNamespace(String(number))
      const link = ['link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', port, 'netns', hub]
      await run('ip', ['-n', namespace, ...link])
      await run('ip', ['-n', namespace, 'address', 'add', `${address}/24`, 'dev', 'eth0'])
      await run('ip', ['-n', hub, 'link', 'set', port, 'master', 'br0', 'up'])
      await run('ip', ['-n', namespace, 'link', 'set', 'eth0', 'up'])
      await shape(namespace, 'eth0', bitsPerSecond)
      await shape(hub, port, bitsPerSecond)
      return hostIn(namespace, 'eth0', address)
    },
  }
}
