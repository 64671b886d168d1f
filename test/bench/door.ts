import { writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { freePort, httpStatus, type Lab, startRegistry } from '@darter/testing'
import { startPeer, upstreamAt } from '../harness/darter.ts'
import { type Blob, makeBlob, plantBlob } from './blob.ts'
import {
  cpuSeconds,
  machine,
  pairedRatio,
  progress,
  round,
  type Sample,
  summarize,
  takeLoopP99,
} from './measure.ts'
import { discard } from './raw-client.ts'

const REPOSITORY = 'bench/door'
/** Transfers of one sample: CPU time is told in steps of 10 ms, which is a lot of one transfer. */
const PASSES = 4

/** A program that serves the blob. */
interface Server {
  readonly pid: number
  readonly url: URL
}

/** nginx as one process, with sendfile and nothing else that a transfer could cost. */
async function startNginx(lab: Lab, blob: Blob): Promise<Server> {
  const dir = lab.makeDir('nginx')
  const port = await freePort()
  const paths = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    name => `${name}_temp_path ${join(dir, name)};`,
  )
  const configFile = join(dir, 'nginx.conf')
  writeFileSync(
    configFile,
    [
      'daemon off;',
      'master_process off;',
      `pid ${join(dir, 'pid')};`,
      `error_log ${join(dir, 'error.log')};`,
      'events {}',
      'http {',
      '  access_log off;',
      '  sendfile on;',
      '  tcp_nopush on;',
      ...paths.map(line => `  ${line}`),
      `  server { listen 127.0.0.1:${port}; root ${dirname(blob.path)}; }`,
      '}',
      '',
    ].join('\n'),
  )
  const base = `http://127.0.0.1:${port}`
  const daemon = await lab.start({
    name: 'nginx',
    command: 'nginx',
    args: ['-p', dir, '-e', join(dir, 'error.log'), '-c', configFile],
    ready: async () => (await httpStatus(`${base}/nothing`)) === 404,
  })
  return { pid: daemon.pid, url: new URL(`${base}/blob`) }
}

/** The least that Node can do without help: read a piece, write it. */
async function startLean(lab: Lab, blob: Blob): Promise<Server> {
  const daemon = await lab.start({
    name: 'lean',
    command: process.execPath,
    args: [join(import.meta.dirname, 'lean-server.ts'), blob.path],
    ready: ({ stdout }) => stdout().endsWith('\n'),
  })
  return { pid: daemon.pid, url: new URL(`http://127.0.0.1:${daemon.stdout().trim()}/`) }
}

/**
 * A blob from the store of a peer to a local client that throws it away, against nginx, docker-registry and the leanest
 * Node program with the same bytes, in turns. Everything is in the page cache.
 */
export async function measureDoor(lab: Lab, options: { readonly size: number; readonly rounds: number }) {
  const { size, rounds } = options
  progress(`making ${size} bytes`)
  const blob = makeBlob(join(lab.makeDir('www'), 'blob'), size)
  const registry = await startRegistry(lab)
  plantBlob(registry, REPOSITORY, blob)
  const peer = await startPeer(lab, { name: 'peer', upstreams: [upstreamAt(registry.address)] })
  const path = `${REPOSITORY}/blobs/${blob.digest}`
  const servers = {
    darter: {
      pid: peer.daemon.pid,
      url: new URL(`http://${peer.mirror.address}/v2/${peer.mirror.prefix}${path}`),
    },
    nginx: await startNginx(lab, blob),
    lean: await startLean(lab, blob),
    registry: { pid: registry.daemon.pid, url: new URL(`${registry.url}/v2/${path}`) },
  } satisfies Record<string, Server>
  const names = ['darter', 'nginx', 'lean', 'registry'] as const
  const samples: Record<(typeof names)[number], Sample[]> = { darter: [], nginx: [], lean: [], registry: [] }

  const measure = async (name: (typeof names)[number]): Promise<Sample> => {
    const { pid, url } = servers[name]
    const before = cpuSeconds(pid)
    let seconds = 0
    for (let pass = 0; pass < PASSES; pass++) {
      const sent = await discard(url)
      if (sent.bytes !== size) throw new Error(`${name} sent ${sent.bytes} bytes`)
      seconds += sent.seconds
    }
    return { bytes: PASSES * size, seconds, cpuSeconds: cpuSeconds(pid) - before }
  }
  // The peer fetches the blob at the first read, and checks what it stored at the first one after that.
  for (const name of ['darter', ...names] as const) await measure(name)
  const before = machine()
  let loopP99Ms = 0
  for (let i = 0; i < rounds; i++) {
    for (let turn = 0; turn < names.length; turn++) {
      const name = names[(i + turn) % names.length]!
      if (name === 'darter') await takeLoopP99(peer)
      const sample = await measure(name)
      if (name === 'darter') loopP99Ms = Math.max(loopP99Ms, await takeLoopP99(peer))
      samples[name].push(sample)
      progress(
        `round ${i + 1}: ${name} ${sample.seconds.toFixed(2)} s, ${sample.cpuSeconds.toFixed(2)} CPU s`,
      )
    }
  }
  const against = (name: 'nginx' | 'lean' | 'registry') =>
    pairedRatio(samples.darter, samples[name], rates => rates.mibPerSecond)
  return {
    bench: 'door',
    bytes: size,
    passes: PASSES,
    rounds,
    vsNginx: against('nginx'),
    vsRegistry: against('registry'),
    vsLean: against('lean'),
    darter: { ...summarize(samples.darter), loopP99Ms: round(loopP99Ms) },
    nginx: summarize(samples.nginx),
    lean: summarize(samples.lean),
    registry: summarize(samples.registry),
    samples,
    machine: { ...before, loadAfter: machine().load },
  }
}
