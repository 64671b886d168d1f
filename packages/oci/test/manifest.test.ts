import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  describeManifest,
  MANIFEST_MEDIA_TYPES,
  ManifestInvalidError,
  MAX_DESCRIPTORS,
  MAX_MANIFEST_BYTES,
  ociErrorBody,
} from '../src/index.ts'

const SEED = { seed: 20_264 }
const [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST] = MANIFEST_MEDIA_TYPES
const bytes = (value: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(value))
const digest = (digit: string): string => `sha256:${digit.repeat(64)}`
const config = { mediaType: 'application/vnd.oci.image.config.v1+json', digest: digest('a'), size: 7 }
const layer = { mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip', digest: digest('b'), size: 99 }
const image = { schemaVersion: 2, config, layers: [layer, layer] }

test('an image gives its config and its layers in order, whether or not it names its type', () => {
  const expected = {
    artifactType: config.mediaType,
    descriptors: [
      { kind: 'config', ...config },
      { kind: 'layer', ...layer },
      { kind: 'layer', ...layer },
    ],
  }
  assert.deepEqual(describeManifest(bytes(image)), { mediaType: OCI_MANIFEST, ...expected })
  for (const mediaType of [OCI_MANIFEST, DOCKER_MANIFEST]) {
    assert.deepEqual(describeManifest(bytes({ ...image, mediaType })), { mediaType, ...expected })
    assert.deepEqual(describeManifest(bytes(image), `${mediaType}; charset=utf-8`), {
      mediaType,
      ...expected,
    })
  }
})

test('an index gives its manifests with their platforms', () => {
  const entry = { mediaType: OCI_MANIFEST, digest: digest('c'), size: 5 }
  const platform = { os: 'linux', architecture: 'arm64', variant: 'v8' }
  const manifests = [
    { ...entry, platform },
    { ...entry, annotations: { k: 'v' } },
  ]
  for (const mediaType of [OCI_INDEX, DOCKER_LIST]) {
    assert.deepEqual(describeManifest(bytes({ schemaVersion: 2, manifests }), mediaType), {
      mediaType,
      descriptors: [
        { kind: 'manifest', ...entry, platform },
        { kind: 'manifest', ...entry, annotations: { k: 'v' } },
      ],
    })
  }
  assert.equal(describeManifest(bytes({ manifests })).mediaType, OCI_INDEX)
})

test('the referrer members are read', () => {
  const subject = { mediaType: OCI_MANIFEST, digest: digest('d'), size: 3 }
  const described = describeManifest(
    bytes({ ...image, layers: null, artifactType: 'a/b', subject, annotations: { x: 'y' } }),
  )
  assert.deepEqual(described.subject, subject)
  assert.equal(described.artifactType, 'a/b')
  assert.deepEqual(described.annotations, { x: 'y' })
})

test('another type is described without descriptors; content of an unsupported algorithm is left out', () => {
  const schema1 = 'application/vnd.docker.distribution.manifest.v1+prettyjws'
  assert.deepEqual(describeManifest(bytes({ schemaVersion: 1, fsLayers: [] }), schema1), {
    mediaType: schema1,
    descriptors: [],
  })
  const foreign = { ...layer, digest: `blake3:${'0'.repeat(64)}` }
  assert.equal(describeManifest(bytes({ ...image, layers: [foreign, layer] })).descriptors.length, 2)
})

test('malformed manifests are refused', () => {
  const bad: [unknown, string?][] = [
    [null],
    [[]],
    [{}],
    ['text'],
    [{ ...image, layers: 'x' }],
    [{ ...image, layers: undefined }, OCI_MANIFEST],
    [{ ...image, config: undefined }, OCI_MANIFEST],
    [{ ...image, layers: [null] }],
    [{ ...image, layers: [{ ...layer, size: -1 }] }],
    [{ ...image, layers: [{ ...layer, size: 1.5 }] }],
    [{ ...image, layers: [{ ...layer, size: '1' }] }],
    [{ ...image, layers: [{ ...layer, size: 2 ** 60 }] }],
    [{ ...image, layers: [{ ...layer, digest: 'sha256:xyz' }] }],
    [{ ...image, layers: [{ ...layer, digest: '../../etc/passwd' }] }],
    [{ ...image, layers: [{ ...layer, mediaType: 1 }] }],
    [{ ...image, manifests: [] }, OCI_MANIFEST],
    [{ manifests: [], layers: [] }, OCI_INDEX],
    [{ ...image, mediaType: OCI_INDEX }, OCI_MANIFEST],
    [{ ...image, mediaType: 5 }],
    [{ ...image, annotations: { a: 1 } }],
    [{ ...image, layers: Array.from({ length: MAX_DESCRIPTORS + 1 }, () => 0) }],
  ]
  for (const [value, mediaType] of bad) {
    assert.throws(
      () => describeManifest(bytes(value), mediaType),
      ManifestInvalidError,
      JSON.stringify(value)?.slice(0, 90),
    )
  }
  assert.throws(() => describeManifest(Uint8Array.of(0x22, 0xff, 0x22)), ManifestInvalidError)
  assert.throws(() => describeManifest(new Uint8Array(MAX_MANIFEST_BYTES + 1)), /larger than 4194304 bytes/)
  assert.throws(() => describeManifest(new TextEncoder().encode('['.repeat(1_000_000))), ManifestInvalidError)
})

test('arbitrary JSON and arbitrary bytes are described or refused by the one error', () => {
  const odd = fc.oneof(
    { arbitrary: fc.constantFrom(layer, config), weight: 9 },
    fc.jsonValue({ maxDepth: 2 }),
  )
  const list = fc.oneof({ arbitrary: fc.array(odd, { maxLength: 3 }), weight: 9 }, odd)
  const mediaType = fc.constantFrom(undefined, undefined, ...MANIFEST_MEDIA_TYPES, 7)
  const likely = fc.oneof(
    fc.record({ mediaType, config: odd, layers: list, subject: odd }, { requiredKeys: ['layers'] }),
    fc.record({ mediaType, manifests: list, annotations: odd }, { requiredKeys: ['manifests'] }),
    fc.record({ mediaType, config: odd, layers: list, manifests: list }, { requiredKeys: [] }),
  )
  const input = fc.oneof(likely.map(bytes), fc.jsonValue().map(bytes), fc.uint8Array())
  let described = 0
  fc.assert(
    fc.property(
      input,
      fc.option(fc.constantFrom(...MANIFEST_MEDIA_TYPES), { nil: undefined }),
      (body, mediaType) => {
        try {
          for (const { size } of describeManifest(body, mediaType).descriptors) assert.ok(size >= 0)
          described++
        } catch (error) {
          assert.ok(error instanceof ManifestInvalidError)
        }
      },
    ),
    { ...SEED, numRuns: 3000 },
  )
  assert.ok(described > 50, `only ${described} inputs were manifests`)
})

test('error bodies have the form of the distribution spec', () => {
  assert.deepEqual(ociErrorBody('NAME_UNKNOWN', 'no'), { errors: [{ code: 'NAME_UNKNOWN', message: 'no' }] })
  assert.deepEqual(ociErrorBody('NAME_UNKNOWN', 'no', { a: 1 }).errors[0]?.detail, { a: 1 })
})
