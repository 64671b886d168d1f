import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Lab, run } from '@darter/testing'
import { assertHasAll, digestsOfFiles, platformDigests } from '../expect.ts'
import { ARCHITECTURE, type Image } from '../images.ts'
import { type Login, type Mirror, UPSTREAM } from '../mirror.ts'
import { connectCri } from './cri.ts'

/** A containerd of its own, whose only way to {@link UPSTREAM} is the mirror. */
export interface Containerd {
  /** `ctr images pull`: resolves a tag or digest of the upstream through the mirror. */
  pullByCtr(
    repository: string,
    reference: string,
    image: Image,
    options?: { readonly login?: Login },
  ): Promise<void>
  /** A pull as the kubelet asks for it. */
  pullByCri(
    repository: string,
    reference: string,
    image: Image,
    options?: { readonly login?: Login },
  ): Promise<void>
  /** Runs a command in a container of a pulled image; returns what it printed. */
  runByCtr(repository: string, tag: string, command: readonly string[]): Promise<string>
}

let count = 0

/** Starts containerd with root, state, socket and configuration below the lab. */
export async function startContainerd(lab: Lab, mirror: Mirror): Promise<Containerd> {
  const name = `containerd-${++count}`
  const dir = lab.makeDir(name)
  const socket = join(dir, 'c.sock')
  const hosts = join(dir, 'hosts')
  mkdirSync(join(hosts, UPSTREAM), { recursive: true })
  // The server itself is a closed port: whatever arrives came through the mirror.
  writeFileSync(
    join(hosts, UPSTREAM, 'hosts.toml'),
    `server = "http://127.0.0.1:1"\n\n[host."http://${mirror.address}"]\n  capabilities = ["pull", "resolve"]\n`,
  )
  const config = join(dir, 'config.toml')
  writeFileSync(
    config,
    `version = 2
root = "${join(dir, 'root')}"
state = "${join(dir, 'state')}"

[grpc]
  address = "${socket}"

[plugins."io.containerd.internal.v1.opt"]
  path = "${join(dir, 'opt')}"

[plugins."io.containerd.grpc.v1.cri"]
  disable_tcp_service = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "${join(dir, 'cni-bin')}"
    conf_dir = "${join(dir, 'cni-conf')}"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "${hosts}"
`,
  )
  await lab.start({
    name,
    command: 'containerd',
    args: ['--config', config],
    ready: async () =>
      existsSync(socket) && (await run('ctr', ['-a', socket, 'version'], { codes: 'any' })).code === 0,
  })
  const content = join(dir, 'root', 'io.containerd.content.v1.content', 'blobs')
  const check = async (image: Image, namespace: string) => {
    const withIndex = image.manifests.length > 1
    const expected = platformDigests(image, ARCHITECTURE, withIndex)
    assertHasAll(await digestsOfFiles(content), expected, 'containerd, on disk')
    const listed = await run('ctr', ['-a', socket, '-n', namespace, 'content', 'ls', '-q'])
    const known = new Set(listed.stdout.toString('utf8').trim().split('\n'))
    assertHasAll(known, expected, `containerd, namespace ${namespace}`)
  }
  const reference = (repository: string, tagOrDigest: string) =>
    `${UPSTREAM}/${repository}${tagOrDigest.startsWith('sha256:') ? '@' : ':'}${tagOrDigest}`
  return {
    async pullByCtr(repository, tagOrDigest, image, options = {}) {
      const { login } = options
      await run('ctr', [
        '-a',
        socket,
        'images',
        'pull',
        '--hosts-dir',
        hosts,
        ...(login === undefined ? [] : ['--user', `${login.username}:${login.password}`]),
        reference(repository, tagOrDigest),
      ])
      await check(image, 'default')
    },
    async pullByCri(repository, tagOrDigest, image, options = {}) {
      const cri = connectCri(socket)
      try {
        await cri.pull(reference(repository, tagOrDigest), options.login)
      } finally {
        cri.close()
      }
      await check(image, 'k8s.io')
    },
    async runByCtr(repository, tag, command) {
      const ran = await run('ctr', [
        '-a',
        socket,
        'run',
        '--rm',
        reference(repository, tag),
        'darter-test',
        ...command,
      ])
      return ran.stdout.toString('utf8')
    },
  }
}
