import assert from 'node:assert/strict'
import { test } from 'node:test'
import { clientLines, joinLines } from '../src/banner.ts'

const addresses = {
  door: { host: '127.0.0.1', port: 5001 },
  admin: { host: '::', port: 5002 },
  proxy: undefined,
  upstreamDoors: [{ host: '127.0.0.1', port: 5010, upstream: 'docker.io' }],
  swarm: [],
}

test('every kind of client has one line', () => {
  const upstreams = ['docker.io', 'ghcr.io']
  const lines = clientLines({ addresses, upstreams, defaultUpstream: 'docker.io' }).split('\n')
  for (const client of ['containerd', 'docker', 'podman', 'skopeo', 'curl']) {
    const own = lines.filter(line => line.startsWith(`  ${client} `))
    assert.equal(own.length, 1, client)
    assert.match(own[0] ?? '', /127\.0\.0\.1:5001/)
  }
  assert.match(lines[0] ?? '', /http:\/\/127\.0\.0\.1:5001; metrics on http:\/\/\[::1\]:5002\/metrics/)
})

test('docker is sent only to a door that means docker.io', () => {
  const docker = (options: Parameters<typeof clientLines>[0]) =>
    /^ {2}docker +(.*)$/m.exec(clientLines(options))?.[1]
  const upstreams = ['docker.io', 'ghcr.io']
  assert.match(docker({ addresses, upstreams, defaultUpstream: 'ghcr.io' }) ?? '', /127\.0\.0\.1:5010/)
  const alone = { ...addresses, upstreamDoors: [] }
  assert.match(
    docker({ addresses: alone, upstreams, defaultUpstream: 'ghcr.io' }) ?? '',
    /asks mirrors for docker\.io only/,
  )
})

test('another machine is told an address that it can reach, where there is one', () => {
  const loopback = '/ip4/127.0.0.1/tcp/5005/p2p/12D3'
  const lan = '/ip4/192.0.2.1/tcp/5005/p2p/12D3'
  const clusterKeyFile = '/var/lib/my darter/cluster.key'
  const open = joinLines({ control: [loopback, lan], clusterKeyFile })
  assert.match(open, /--scheduler \/ip4\/192\.0\.2\.1\//)
  assert.match(open, /'\/var\/lib\/my darter\/cluster\.key'/)
  assert.doesNotMatch(open, /only from this machine/)
  assert.match(joinLines({ control: [loopback], clusterKeyFile }), /only from this machine now/)
})
