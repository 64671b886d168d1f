import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Lab, run } from '@darter/testing'
import { ARCHITECTURE, type Image } from '../images.ts'
import type { Mirror } from '../mirror.ts'

/** A dockerd of its own; docker.io's images come through the mirror (`registry-mirrors`). */
export interface Docker {
  /** Pulls a docker.io image by tag or digest and checks the config's and all layers' digests. */
  pull(repository: string, reference: string, image: Image): Promise<void>
  run(repository: string, tag: string, command: readonly string[]): Promise<string>
}

/** Starts dockerd without networking, with data and sockets below the lab. */
export async function startDocker(lab: Lab, mirror: Mirror): Promise<Docker> {
  const dir = lab.makeDir('docker')
  const socket = `unix://${join(dir, 'd.sock')}`
  const config = join(dir, 'daemon.json')
  writeFileSync(
    config,
    JSON.stringify({
      'data-root': join(dir, 'data'),
      'exec-root': join(dir, 'exec'),
      pidfile: join(dir, 'd.pid'),
      hosts: [socket],
      bridge: 'none',
      iptables: false,
      'storage-driver': 'overlay2',
      'registry-mirrors': [`http://${mirror.address}`],
    }),
  )
  const env = { DOCKER_CONFIG: lab.makeDir('docker-config'), DOCKER_HOST: socket }
  await lab.start({
    name: 'dockerd',
    command: 'dockerd',
    args: ['--config-file', config],
    readyTimeoutMs: 60_000,
    stopTimeoutMs: 20_000,
    ready: async () => (await run('docker', ['version'], { env, codes: 'any' })).code === 0,
  })
  return {
    async pull(repository, reference, image) {
      const name = `docker.io/${repository}${reference.startsWith('sha256:') ? '@' : ':'}${reference}`
      await run('docker', ['pull', name], { env })
      const { stdout } = await run('docker', ['image', 'inspect', name], { env })
      const [found] = JSON.parse(stdout.toString('utf8')) as [
        { Id: string; RepoDigests: string[]; RootFS: { Layers: string[] } },
      ]
      const expected = image.manifests.find(one => one.architecture === ARCHITECTURE)
      assert(expected)
      assert.equal(found.Id, expected.config.digest)
      assert.deepEqual(found.RootFS.Layers, expected.diffIds)
      assert(
        found.RepoDigests.some(text => text.endsWith(`@${image.top.digest}`)),
        found.RepoDigests.join(),
      )
    },
    async run(repository, tag, command) {
      const ran = await run(
        'docker',
        ['run', '--rm', '--network', 'none', `docker.io/${repository}:${tag}`, ...command],
        {
          env,
        },
      )
      return ran.stdout.toString('utf8')
    },
  }
}
