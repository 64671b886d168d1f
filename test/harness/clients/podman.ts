import assert from 'node:assert/strict'
import { existsSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Lab, newerProgram, run } from '@darter/testing'
import { ARCHITECTURE, type Image } from '../images.ts'
import { type Mirror, UPSTREAM } from '../mirror.ts'

/** Podman with storage of its own, whose only way to {@link UPSTREAM} is the mirror. */
export interface Podman {
  /** Pulls by tag or digest and checks the manifest's, the config's and all layers' digests. */
  pull(repository: string, reference: string, image: Image): Promise<void>
  /** Directories that the files of each of its layers are in. */
  layerDirs(): string[]
}

let count = 0

/**
 * Prepares podman's configuration below the lab: the system's podman, or with `partial` the newer one of {@link newerProgram},
 * which fetches only those files of zstd:chunked layers that it does not have.
 */
export function preparePodman(
  lab: Lab,
  mirror: Mirror,
  options: { readonly partial?: boolean } = {},
): Podman {
  const dir = lab.makeDir(`podman-${++count}`)
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
    ...(options.partial === true && { CONTAINERS_STORAGE_CONF: partialPulls(dir) }),
    CONTAINERS_REGISTRIES_CONF: registries,
    XDG_RUNTIME_DIR: dir,
    REGISTRY_AUTH_FILE: authFile,
  }
  const podman = (...args: readonly string[]) =>
    run(
      options.partial === true ? newerProgram('podman') : 'podman',
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
    layerDirs: () => {
      const layers = join(dir, 'root', 'overlay')
      if (!existsSync(layers)) return []
      return readdirSync(layers)
        .map(name => join(layers, name, 'diff'))
        .filter(path => existsSync(path))
    },
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

/** Writes the storage configuration that docs/clients/podman.md tells of; returns its path. */
function partialPulls(dir: string): string {
  const path = join(dir, 'storage.conf')
  const lines = ['[storage]', 'driver = "overlay"', '[storage.options.pull_options]']
  writeFileSync(path, [...lines, 'enable_partial_images = "true"', ''].join('\n'))
  return path
}
