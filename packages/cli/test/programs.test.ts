import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { ConfigError } from '../src/config/errors.ts'
import { peerConfig, schedulerConfig } from '../src/config/programs.ts'
import { resolveSettings } from '../src/config/resolve.ts'
import { parseConfigFile } from '../src/config/sources.ts'

const from = (file: string) =>
  resolveSettings([parseConfigFile(`data-dir: /state\n${file}`, '/etc/darter/darter.yaml')], {})

async function refused(file: string): Promise<string> {
  try {
    await peerConfig(from(file))
  } catch (error) {
    assert.ok(error instanceof ConfigError)
    return error.message
  }
  return assert.fail('it was taken')
}

test('without any option a peer mirrors the well-known registries on loopback, alone', async () => {
  const config = await peerConfig(from(''))
  assert.equal(config.defaultUpstream, 'docker.io')
  assert.deepEqual(
    config.upstreams.map(({ name }) => name),
    ['docker.io', 'ghcr.io', 'quay.io', 'registry.k8s.io', 'gcr.io', 'mcr.microsoft.com', 'public.ecr.aws'],
  )
  for (const { host } of [config.door, config.admin, config.swarm]) assert.equal(host, '127.0.0.1')
  assert.equal(config.swarm.clusterKeyFile, undefined)
  assert.equal(config.identityFile, '/state/peer.key')
  assert.equal(config.store.dir, '/state/store')
  assert.equal(schedulerConfig(from('')).clusterKeyFile, '/state/cluster.key')
  assert.equal(schedulerConfig(from('')).preheatDir, '/state/preheats')
})

test('a configured upstream takes the place of the default one and keeps its other names', async () => {
  const { upstreams } = await peerConfig(from('upstreams: ["docker.io=http://127.0.0.1:5000"]'))
  assert.equal(upstreams.length, 7)
  assert.deepEqual(upstreams[0], {
    kind: 'registry',
    name: 'docker.io',
    hosts: ['index.docker.io', 'registry-1.docker.io'],
    url: 'http://127.0.0.1:5000',
    caFile: undefined,
    credentials: undefined,
    dockerConfigFile: undefined,
    maxConnections: undefined,
    public: false,
  })
})

test('limits on traffic are handed on in bytes per second; without them there are none', async () => {
  const file = 'transfer: {upload-rate: 1MiB, download-rate: 8mbit, origin-rate: 64KiB/s, max-uploads: 3}'
  const upstream = 'upstreams: [{name: a, url: "http://a", max-connections: 4}]'
  const limited = await peerConfig(from(`${file}\n${upstream}`))
  assert.deepEqual(limited.transfers, {
    uploadBytesPerSecond: 2 ** 20,
    downloadBytesPerSecond: 1_000_000,
    originBytesPerSecond: 2 ** 16,
    maxUploads: 3,
    maxDownloads: 16,
    progressTimeoutMs: 10_000,
  })
  const [first] = limited.upstreams
  assert.equal(first?.kind === 'registry' && first.maxConnections, 4)
  const { transfers } = await peerConfig(from(''))
  const { uploadBytesPerSecond, downloadBytesPerSecond, originBytesPerSecond } = transfers
  assert.deepEqual([uploadBytesPerSecond, downloadBytesPerSecond, originBytesPerSecond], [0, 0, 0])
  assert.match(
    await refused('upstreams: [{name: a, url: "oci-layout:/a", max-connections: 4}]'),
    /max-connections .*means nothing for a directory/,
  )
})

test('the default upstream is the configured one, docker.io, or the only one', async () => {
  const lone = await peerConfig(from('default-upstreams: false\nupstreams: ["a=http://a"]'))
  assert.equal(lone.defaultUpstream, 'a')
  const two = await peerConfig(from('default-upstreams: false\nupstreams: ["a=http://a", "b=http://b"]'))
  assert.equal(two.defaultUpstream, undefined)
  assert.equal((await peerConfig(from('default-upstream: quay.io'))).defaultUpstream, 'quay.io')
})

test('values that do not fit each other are refused', async () => {
  assert.match(
    await refused('default-upstream: nowhere.io'),
    /^default-upstream .* nowhere\.io is not one of .*docker\.io/,
  )
  assert.match(
    await refused('door: {upstreams: [5010=nowhere.io]}'),
    /^door\.upstreams .* nowhere\.io is not one of/,
  )
  assert.match(
    await refused('store: {low-watermark: 95%}'),
    /low-watermark .* must be less than store\.high-watermark/,
  )
  assert.match(await refused('upstreams: ["index.docker.io=http://a"]'), /index\.docker\.io stands for/)
  assert.match(await refused('upstreams: ["a=http://a", "a=http://b"]'), /a stands for a and for a/)
})

test('a peer with a scheduler has a cluster key', async () => {
  const address = '/ip4/192.0.2.1/tcp/5005/p2p/12D3KooWGmm5tM5oX7yCCFnWZYqDbEnxWuLtNzLkWFJZFxJ6UmPr'
  const { swarm } = await peerConfig(from(`schedulers: [${address}]`))
  assert.deepEqual(swarm.schedulers, [address])
  assert.equal(swarm.clusterKeyFile, '/state/cluster.key')
})

test('a password comes from the first line of its file', async t => {
  const dir = await mkdtemp(join(tmpdir(), 'darter-cli-'))
  t.after(() => rm(dir, { recursive: true }))
  const file = join(dir, 'password')
  const upstream = `upstreams: [{name: a, url: "https://a", username: joe, password-file: ${file}}]`
  assert.match(await refused(upstream), /upstream a: cannot read password-file: ENOENT/)
  await writeFile(file, '\n')
  assert.match(await refused(upstream), /is empty/)
  await writeFile(file, 's3cret\n')
  const [configured] = (await peerConfig(from(upstream))).upstreams
  assert.deepEqual(configured?.kind === 'registry' && configured.credentials, {
    username: 'joe',
    password: 's3cret',
  })
})

test('a bucket takes what AWS tools read from the environment where its own settings are silent', async () => {
  const bucket = async (lines: string, env: Record<string, string> = {}) => {
    const file = `default-upstreams: false\nupstreams:\n  - name: m\n    url: s3://weights/models\n${lines}`
    const { upstreams } = await peerConfig(from(file), { HOME: '/nowhere', ...env })
    const [only] = upstreams
    assert(only?.kind === 's3')
    return only
  }
  const plain = await bucket('')
  assert.equal(plain.prefix, 'models/')
  assert.equal(plain.endpoint, 'https://s3.us-east-1.amazonaws.com')
  assert.equal(plain.pathStyle, false)
  assert.equal(plain.credentials, undefined)

  const keys = { AWS_ACCESS_KEY_ID: 'id', AWS_SECRET_ACCESS_KEY: 'secret', AWS_SESSION_TOKEN: 'token' }
  const fromEnv = await bucket('', {
    ...keys,
    AWS_REGION: 'eu-central-1',
    AWS_ENDPOINT_URL: 'http://127.0.0.1:9000/',
  })
  assert.equal(fromEnv.region, 'eu-central-1')
  assert.equal(fromEnv.endpoint, 'http://127.0.0.1:9000')
  assert.equal(fromEnv.pathStyle, true)
  assert.deepEqual(fromEnv.credentials, {
    accessKeyId: 'id',
    secretAccessKey: 'secret',
    sessionToken: 'token',
  })
  const own = await bucket('    username: u\n    password: p\n    region: r\n', keys)
  assert.deepEqual(own.credentials, { accessKeyId: 'u', secretAccessKey: 'p' })
  const profile = await bucket('    profile: x\n', keys)
  assert.deepEqual(profile.credentials, { file: '/nowhere/.aws/credentials', profile: 'x' })

  for (const [variable, value, shown] of [
    ['AWS_ENDPOINT_URL', 'minio:9000', /AWS_ENDPOINT_URL must be https:\/\/HOST.* not "minio:9000"$/],
    [
      'AWS_ENDPOINT_URL_S3',
      'https://u:pass@minio',
      /AWS_ENDPOINT_URL_S3 must be .* not "https:\/\/\*+@minio"$/,
    ],
    ['AWS_ENDPOINT_URL', 'http://minio:9000/path', /must be/],
    ['AWS_ENDPOINT_URL', 'minio', /must be/],
  ] as const) {
    await assert.rejects(bucket('', { [variable]: value }), { name: 'ConfigError', message: shown })
  }

  assert.match(
    await refused('upstreams: [{name: m, url: "s3://weights", docker-config: /x}]'),
    /means nothing for a bucket/,
  )
  assert.match(
    await refused('upstreams: [{name: m, url: "https://a", region: x}]'),
    /means nothing but for an s3/,
  )
  assert.match(await refused('upstreams: [{name: m, url: "s3://weights?x"}]'), /s3:\/\/BUCKET/)
  assert.match(
    await refused('upstreams: ["m=s3://weights"]\ndefault-upstream: m'),
    /m is not one of the upstreams/,
  )
})

test('a seed keeps much unless it is told how much', async () => {
  const quotas = ['', 'seed: true', 'seed: true\nstore: {quota: 5GiB}'].map(
    async file => (await peerConfig(from(file))).store.quota,
  )
  assert.deepEqual(await Promise.all(quotas), [
    { diskFraction: 0.2 },
    { diskFraction: 0.8 },
    { bytes: 5 * 2 ** 30 },
  ])
  assert.equal((await peerConfig(from('seed: true'))).swarm.seed, true)
})
