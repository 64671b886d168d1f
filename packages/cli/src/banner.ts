import type { PeerAddresses } from '@darter/peer'

/** What the lines for people say after a start. */
interface Line {
  readonly label: string
  readonly text: string
}

const columns = (lines: readonly Line[]) => {
  const width = Math.max(...lines.map(({ label }) => label.length)) + 2
  return lines.map(({ label, text }) => `  ${label.padEnd(width)}${text}`).join('\n')
}

const isLoopback = (address: string) => /^(?:127\.|::1$|localhost$)|^\/ip4\/127\.|^\/ip6\/::1\//.test(address)

/** `host:port` as a URL has it; an address that stands for every interface becomes the loopback one. */
export function authority({ host, port }: { readonly host: string; readonly port: number }): string {
  const reachable = host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '::1' : host
  return reachable.includes(':') ? `[${reachable}]:${port}` : `${reachable}:${port}`
}

/** `http://host:port` of the door of the peer that a command's own settings name. */
export function peerUrl(settings: { readonly 'door.host': string; readonly 'door.port': number }): string {
  return `http://${authority({ host: settings['door.host'], port: settings['door.port'] })}`
}

const quote = (path: string) => (/^[\w./~-]+$/.test(path) ? path : `'${path.replaceAll("'", `'\\''`)}'`)

/** How clients on this machine are pointed at the peer: a line for each kind. */
export function clientLines(options: {
  readonly addresses: PeerAddresses
  readonly upstreams: readonly string[]
  readonly defaultUpstream: string | undefined
}): string {
  const { addresses, upstreams, defaultUpstream } = options
  const door = authority(addresses.door)
  const name = upstreams.includes('docker.io')
    ? 'docker.io'
    : (defaultUpstream ?? upstreams[0] ?? 'docker.io')
  const image = name === 'docker.io' ? 'library/busybox' : 'REPOSITORY'
  // Docker's daemon asks mirrors for docker.io alone and never says so: only a door that means docker.io will do.
  const dockerDoor =
    defaultUpstream === 'docker.io'
      ? addresses.door
      : addresses.upstreamDoors.find(({ upstream }) => upstream === 'docker.io')
  const hosts = `/etc/containerd/certs.d/${name}/hosts.toml`
  const lines: Line[] = [
    {
      label: 'containerd',
      text: `printf '[host."http://${door}"]\\n  capabilities = ["pull", "resolve"]\\n' > ${hosts}`,
    },
    {
      label: 'docker',
      text:
        dockerDoor === undefined
          ? 'asks mirrors for docker.io only: allow that upstream and make it the default, or give it a --door-upstream'
          : `"registry-mirrors": ["http://${authority(dockerDoor)}"] in /etc/docker/daemon.json`,
    },
    {
      label: 'podman',
      text: `printf '[[registry]]\\nlocation = "${name}"\\n[[registry.mirror]]\\nlocation = "${door}/${name}"\\ninsecure = true\\n' > /etc/containers/registries.conf.d/darter.conf`,
    },
    {
      label: 'skopeo',
      text: `skopeo copy --src-tls-verify=false docker://${door}/${name}/${image}:latest oci:image`,
    },
    { label: 'curl', text: `curl http://${door}/v2/${name}/${image}/manifests/latest` },
  ]
  if (addresses.proxy !== undefined) {
    const proxy = authority(addresses.proxy)
    lines.push({
      label: 'nydusd',
      text: `"proxy": {"url": "http://${proxy}", "ping_url": "http://${proxy}/healthz", "use_http": true}`,
    })
  }
  const allowed = upstreams.map(upstream =>
    upstream === defaultUpstream ? `${upstream} (default)` : upstream,
  )
  return [
    `Registry mirror on http://${door}; metrics on http://${authority(addresses.admin)}/metrics.`,
    `Upstreams: ${allowed.length === 0 ? 'none' : allowed.join(', ')}.`,
    'Point clients here:',
    columns(lines),
  ].join('\n')
}

/** How a peer on another machine joins. */
export function joinLines(options: {
  readonly control: readonly string[]
  readonly clusterKeyFile: string
}): string {
  const { control, clusterKeyFile } = options
  const address = control.find(candidate => !isLoopback(candidate)) ?? control[0] ?? ''
  const command = `darter peer --swarm-host 0.0.0.0 --scheduler ${address} --cluster-key-file cluster.key`
  const lines = [`Another machine joins with a copy of ${quote(clusterKeyFile)} and`, `  ${command}`]
  if (isLoopback(address)) {
    lines.push(
      '  (only from this machine now: start with --scheduler-host 0.0.0.0 --swarm-host 0.0.0.0 for others)',
    )
  }
  return lines.join('\n')
}
