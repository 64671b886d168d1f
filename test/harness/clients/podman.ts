import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Lab, run } from '@darter/testing'
import { ARCHITECTURE, type Image } from '../images.ts'
import { type Mirror, UPSTREAM } from '../mirror.ts'

/** Podman with storage of its own, whose only way to {@link UPSTREAM} is the mirror. */
export interface Podman {
  /** Pulls by tag or digest and checks the manifest's, the config's and all layers' digests. */
  pull(repository: string, reference: string, image: Image): Promise<void>
}

/** Prepares podman's configuration below the lab. */
export function preparePodman(lab: Lab, mirror: Mirror): Podman {
  const dir = lab.makeDir('podman')
  const location = `${mirror.address}/${mirror.prefix}`.replace(/\/$/, '')
  const registries = join(dir, 'registries.conf')
  // The registry itself is a closed port: whatever arrives came through the mirror.
  writeFileSync(
    registries,
    `unqualified-search-registries = []

[[registry]]
prefix = "${UPSTREAM}"
location = "127.0.0.1:1"
insecure = true

[[registry.mirror]]
location = "${location}"
insecure = true
`,
  )
  const authFile = join(dir, 'auth.json')
  writeFileSync(authFile, '{}')
  const env = {
    CONTAINERS_REGISTRIES_CONF: registries,
    XDG_RUNTIME_DIR: dir,
    REGISTRY_AUTH_FILE: authFile,
  }
  const podman = (...args: readonly string[]) =>
    run(
      'podman',
      [
        '--root',
        join(dir, 'root'),
        '--runroot',
        join(dir, 'run'),
        '--storage-driver',
        'overlay',
        '--cgroup-manager',
        'cgroupfs',
        '--events-backend',
        'none',
        ...args,
      ],
      { env },
    )
  return {
    async pull(repository, reference, image) {
      const name = `${UPSTREAM}/${repository}${reference.startsWith('sha256:') ? '@' : ':'}${reference}`
      await podman('pull', '--quiet', name)
      const { stdout } = await podman('image', 'inspect', name)
      const [found] = JSON.parse(stdout.toString('utf8')) as [
        { Id: string; Digest: string; RepoDigests: string[]; RootFS: { Layers: string[] } },
      ]
      const expected = image.manifests.find(one => one.architecture === ARCHITECTURE)
      assert(expected)
      assert.equal(`sha256:${found.Id}`, expected.config.digest)
      assert.deepEqual(found.RootFS.Layers, expected.diffIds)
      assert(
        found.RepoDigests.some(text => text.endsWith(`@${image.top.digest}`)),
        found.RepoDigests.join(),
      )
    },
  }
}
