import assert from 'node:assert/strict'
import { homedir } from 'node:os'
import { test } from 'node:test'
import fc from 'fast-check'
import { ConfigError } from '../src/config/errors.ts'
import { printConfig } from '../src/config/print.ts'
import { type Resolved, resolveSettings } from '../src/config/resolve.ts'
import { type OptionKey, optionRows, variableOf } from '../src/config/schema.ts'
import { parseConfigFile, readEnvironment, readFlags } from '../src/config/sources.ts'

const FILE = '/etc/darter/darter.yaml'

function resolved(given: {
  flags?: Readonly<Partial<Record<OptionKey, unknown>>>
  env?: Readonly<Record<string, string>>
  file?: string
}): Resolved {
  const { flags = {}, env = {}, file = '' } = given
  const flagMap = new Map(Object.entries(flags)) as Map<OptionKey, unknown>
  return resolveSettings([readFlags(flagMap), readEnvironment(env), parseConfigFile(file, FILE)], env)
}

function problems(given: Parameters<typeof resolved>[0]): readonly string[] {
  try {
    resolved(given)
  } catch (error) {
    if (error instanceof ConfigError) return error.problems
    throw error
  }
  return assert.fail('nothing was wrong')
}

test('a flag goes before the environment, that before the file, that before the default', () => {
  const file = 'door: {port: 1}'
  const env = { DARTER_DOOR_PORT: '2' }
  const flags = { 'door.port': '3' }
  const port = (given: Parameters<typeof resolved>[0]) => {
    const { settings, sources } = resolved(given)
    return [settings['door.port'], sources.get('door.port')]
  }
  assert.deepEqual(port({}), [5001, 'default'])
  assert.deepEqual(port({ file }), [1, `${FILE}:1`])
  assert.deepEqual(port({ file, env }), [2, 'DARTER_DOOR_PORT'])
  assert.deepEqual(port({ file, env, flags }), [3, '--door-port'])
  assert.deepEqual(port({ file, env: { DARTER_DOOR_PORT: '' } }), [1, `${FILE}:1`])
})

test('every option has a flag, a variable and a key of its own, and a default that is allowed', () => {
  const { settings } = resolved({})
  const variables = optionRows().map(([key]) => variableOf(key))
  assert.equal(new Set(variables).size, variables.length)
  for (const [key, row] of optionRows()) {
    assert.ok(key in settings, key)
    assert.ok(row.description.length > 10 && row.type.allowed !== '', key)
  }
})

test('values come in the units that programs use', () => {
  const { settings } = resolved({
    file: 'store: {quota: 50GiB, scrub-rate: 100mbit, high-watermark: 90%}\ngrace-time: 1m30s\nzone: 12\ntags: {ttl: 0}',
  })
  assert.deepEqual(settings['store.quota'], { bytes: 50 * 2 ** 30 })
  assert.equal(settings['store.scrub-rate'], 12_500_000)
  assert.equal(settings['store.high-watermark'], 0.9)
  assert.equal(settings['grace-time'], 90_000)
  assert.equal(settings.zone, '12')
  assert.equal(settings['tags.ttl'], 0)
  assert.deepEqual(resolved({ flags: { 'store.quota': '33.5%' } }).settings['store.quota'], {
    diskFraction: 0.335,
  })
})

test('a rate for transfers is given in any way, and is not so low that nothing would move', () => {
  const key = 'transfer.upload-rate'
  assert.equal(resolved({}).settings[key], 0)
  assert.equal(resolved({ flags: { [key]: '50MiB' } }).settings[key], 50 * 2 ** 20)
  assert.equal(resolved({ env: { DARTER_TRANSFER_UPLOAD_RATE: '64KiB/s' } }).settings[key], 2 ** 16)
  assert.equal(resolved({ file: 'transfer: {upload-rate: 100mbit}' }).settings[key], 12_500_000)
  assert.equal(resolved({ file: 'transfer: {upload-rate: 0}' }).settings[key], 0)
  for (const text of ['63KiB', '1B', '-1MiB', '50', 'fast']) {
    const [problem] = problems({ flags: { [key]: text } })
    assert.match(
      String(problem),
      /^transfer\.upload-rate \(--transfer-upload-rate\): ".*" is not a rate such as /,
    )
  }
})

test('relative paths start where they were written', () => {
  assert.equal(resolved({ file: 'data-dir: state' }).settings['data-dir'], '/etc/darter/state')
  assert.equal(resolved({ flags: { 'data-dir': 'state' } }).settings['data-dir'], `${process.cwd()}/state`)
  assert.equal(resolved({ file: 'data-dir: ~/state' }).settings['data-dir'], `${homedir()}/state`)
  assert.equal(resolved({ env: { XDG_STATE_HOME: '/state' } }).settings['data-dir'], '/state/darter')
})

test('lists are repeated flags, commas in a variable, or lists in a file', () => {
  const expected = ['10.0.0.1', 'peer.example']
  assert.deepEqual(resolved({ flags: { 'swarm.announce': expected } }).settings['swarm.announce'], expected)
  const env = { DARTER_SWARM_ANNOUNCE: '10.0.0.1, peer.example,' }
  assert.deepEqual(resolved({ env }).settings['swarm.announce'], expected)
  const file = 'swarm:\n  announce:\n    - 10.0.0.1\n    - peer.example'
  assert.deepEqual(resolved({ file }).settings['swarm.announce'], expected)
})

test('an upstream in a file has the rich form', () => {
  const file = `
upstreams:
  - other=oci-layout:images
  - name: docker.io
    url: https://mirror.example/v/
    hosts: [index.docker.io]
    ca: ca.pem
    username: joe
    password: "s3cret"
    max-connections: 4
    public: true
`
  const [layout, registry] = resolved({ file }).settings.upstreams
  assert.deepEqual(layout?.target, { kind: 'oci-layout', path: '/etc/darter/images' })
  assert.deepEqual(registry, {
    name: 'docker.io',
    target: { kind: 'registry', url: 'https://mirror.example/v' },
    hosts: ['index.docker.io'],
    ca: '/etc/darter/ca.pem',
    username: 'joe',
    password: 's3cret',
    passwordFile: undefined,
    dockerConfig: undefined,
    maxConnections: 4,
    public: true,
  })
})

const BAD: readonly { readonly given: Parameters<typeof resolved>[0]; readonly says: readonly RegExp[] }[] = [
  {
    given: { file: 'door:\n  prt: 1' },
    says: [/^door\.prt \(\/etc\/darter\/darter\.yaml:2\) is not an option: did you mean door\.port\?$/],
  },
  {
    given: { file: 'store: {zzzzzzzzz: 1}' },
    says: [/^store\.zzzzzzzzz .* store takes quota, high-watermark/],
  },
  { given: { file: 'xyzzyxyzzy: 1' }, says: [/the file takes data-dir, log, /] },
  { given: { file: 'store: 7' }, says: [/^store .* takes options below it, such as store\.quota$/] },
  { given: { file: 'zone:' }, says: [/^zone .*: an empty value is not a word/] },
  {
    given: { env: { DARTER_DOR_PORT: '1' } },
    says: [/^DARTER_DOR_PORT .* did you mean DARTER_DOOR_PORT\?$/],
  },
  {
    given: { flags: { 'door.port': '70000' }, env: { DARTER_TAGS_TTL: '10' } },
    says: [
      /^door\.port \(--door-port\): "70000" is not a port number, 0 to 65535/,
      /^tags\.ttl \(DARTER_TAGS_TTL\): "10" is not a duration such as /,
    ],
  },
  { given: { file: 'store: {verify: sometimes}' }, says: [/"sometimes" is not one of once, always$/] },
  { given: { file: 'tags: {share: 1}' }, says: [/^tags\.share .*"1" is not true or false$/] },
  {
    given: { file: 'swarm: {announce: [ok.example, "a b"]}' },
    says: [/^swarm\.announce\[1\] .*"a b" is not an IP/],
  },
  { given: { file: 'schedulers: [/ip4/1.2.3.4/tcp/5005]' }, says: [/ends in \/p2p\//] },
  {
    given: { file: 'upstreams: [{name: x}]' },
    says: [/^upstreams\[0\]\.url .* is missing: expected https:/],
  },
  {
    given: { file: 'upstreams: [{name: x, url: "https://x", user: joe}]' },
    says: [/^upstreams\[0\]\.user .* did you mean username\?$/],
  },
  {
    given: { file: 'upstreams: [{name: x, url: "https://x", username: joe}]' },
    says: [/^upstreams\[0\]\.username .* needs exactly one of password and password-file/],
  },
  {
    given: { file: 'upstreams: [{name: x, url: "oci-layout:x", ca: y}]' },
    says: [/ca .* means nothing for a directory/],
  },
  { given: { flags: { upstreams: ['x'] } }, says: [/^upstreams\[0\] \(--upstream\): "x" is not NAME=URL/] },
  {
    given: { flags: { upstreams: ['X=https://x'] } },
    says: [/"X=https:\/\/x" is not a name of an upstream/],
  },
  { given: { flags: { 'door.upstreams': ['5010:ghcr.io'] } }, says: [/"5010:ghcr\.io" is not PORT=NAME/] },
]

test('what is wrong is told with key, source, value and what is allowed', () => {
  for (const { given, says } of BAD) {
    const found = problems(given)
    assert.equal(found.length, says.length, found.join('\n'))
    for (const [i, pattern] of says.entries()) assert.match(found[i] ?? '', pattern)
  }
})

test('an upstream’s URL is http, https or a directory, without user, query and fragment', () => {
  for (const url of [
    'ftp://x',
    'https://',
    'x',
    'https://u@x',
    'https://x/?a',
    'https://x/#a',
    'oci-layout:',
    'http:x',
  ]) {
    assert.match(problems({ flags: { upstreams: [`x=${url}`] } })[0] ?? '', /^upstreams\[0\]\.url /, url)
  }
})

test('no secret stands in a message', () => {
  const shown = [
    ...problems({ flags: { upstreams: ['x=https://joe:s3cret@x'] } }),
    ...problems({ file: 'upstreams: [{name: x, url: "https://joe:s3cret@x"}]' }),
    ...problems({ file: 'upstreams: [{name: x, url: "https://x", username: joe, password: 53}]' }),
    ...problems({ file: 'upstreams: [{name: x, url: "https://x", password: s3cret}]' }),
  ].join('\n')
  assert.doesNotMatch(shown, /s3cret|53/)
})

test('files that are no YAML maps are refused with the line', () => {
  assert.match(problems({ file: 'a: [' })[0] ?? '', /darter\.yaml:1: /)
  assert.match(problems({ file: '- door' })[0] ?? '', /must be a YAML map/)
  assert.match(problems({ file: 'zone: a\nzone: b' })[0] ?? '', /darter\.yaml:2: .*unique/)
  assert.equal(resolved({ file: '# nothing\n' }).settings['door.port'], 5001)
  assert.equal(resolved({ file: 'door:\n  # port: 1\n' }).settings['door.port'], 5001)
})

test('what Kubernetes sets for Services is not taken for options', () => {
  const env = {
    DARTER_SERVICE_HOST: '10.0.0.1',
    DARTER_DOOR_SERVICE_PORT_HTTP: '80',
    DARTER_DOOR_PORT: 'tcp://10.0.0.1:80',
    DARTER_PORT_80_TCP_ADDR: '10.0.0.1',
  }
  assert.equal(resolved({ env }).settings['door.port'], 5001)
})

test('the printed configuration reads back as the same, secrets aside', () => {
  const file = `
data-dir: /var/lib/darter
default-upstream: docker.io
upstreams:
  - {name: docker.io, url: "https://x", username: joe, password: s3cret}
  - {name: local, url: "oci-layout:/images", hosts: [a.example]}
door: {upstreams: [5010=ghcr.io]}
store: {quota: 1.5GiB, low-watermark: 33.3%}
swarm: {announce: [10.0.0.1]}
`
  const first = resolved({ file, flags: { 'tags.share': false } })
  const text = printConfig(first)
  assert.doesNotMatch(text, /s3cret/)
  assert.match(text, /share: false # --no-tags-share/)
  assert.match(text, /quota: 1536MiB # \/etc\/darter\/darter\.yaml:8/)
  const again = resolved({ file: text.replace('"********"', 's3cret') })
  assert.deepEqual(again.settings, first.settings)
})

test('any text for any option is read or refused with a ConfigError that names the key', () => {
  const keys = optionRows().map(([key]) => key)
  const raw = fc.oneof(
    fc.string(),
    fc.integer(),
    fc.boolean(),
    fc.constant(null),
    fc.array(fc.string(), { maxLength: 3 }),
    fc.dictionary(fc.constantFrom('name', 'url', 'hosts', '__proto__', 'x'), fc.anything({ maxDepth: 1 }), {
      maxKeys: 4,
    }),
  )
  fc.assert(
    fc.property(fc.constantFrom(...keys), raw, (key, value) => {
      try {
        resolved({ flags: { [key]: value } })
      } catch (error) {
        assert.ok(error instanceof ConfigError)
        for (const problem of error.problems)
          assert.ok(problem.startsWith(key) && !problem.includes('\n'), problem)
      }
    }),
    { seed: 11, numRuns: 2000 },
  )
})

test('any file is read or refused with a ConfigError', () => {
  const line = fc.constantFrom(
    'door:',
    '  port: 1',
    '- a',
    'zone: x',
    '? a',
    '&a *a',
    '{',
    '"',
    'a: !!x y',
    '<<: *b',
    '\t',
  )
  const text = fc.oneof(
    fc.string(),
    fc.array(line, { maxLength: 6 }).map(lines => lines.join('\n')),
  )
  fc.assert(
    fc.property(text, file => {
      try {
        resolved({ file })
      } catch (error) {
        assert.ok(error instanceof ConfigError, String(error))
      }
    }),
    { seed: 12, numRuns: 1000 },
  )
})
