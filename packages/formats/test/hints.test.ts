import assert from 'node:assert/strict'
import { test } from 'node:test'
import { describeManifest, parseDigest } from '@darter/oci'
import fc from 'fast-check'
import { hintsOf } from '../src/index.ts'
import { SEED } from './support.ts'

const digest = (letter: string) => parseDigest(`sha256:${letter.repeat(64)}`)
const OCI = 'application/vnd.oci.image'

const hintsIn = (
  ...layers: readonly { mediaType?: string; annotations?: Record<string, string>; size?: number }[]
) => {
  const manifest = {
    schemaVersion: 2,
    mediaType: `${OCI}.manifest.v1+json`,
    config: { mediaType: `${OCI}.config.v1+json`, digest: digest('0'), size: 2 },
    layers: layers.map((layer, index) => ({
      mediaType: `${OCI}.layer.v1.tar+gzip`,
      digest: digest('abcdef'.charAt(index)),
      size: 1000,
      ...layer,
    })),
  }
  return hintsOf(describeManifest(Buffer.from(JSON.stringify(manifest))).descriptors)
}

test('layers without annotations, or with others, are of no known format', () => {
  assert.equal(hintsIn({}, { annotations: { 'org.opencontainers.image.title': 'weights' } }).size, 0)
})

test('eStargz, and the same table in a zstd layer', () => {
  const annotations = { 'containerd.io/snapshot/stargz/toc.digest': digest('9') }
  const hints = hintsIn({ annotations }, { annotations, mediaType: `${OCI}.layer.v1.tar+zstd` })
  assert.deepEqual(
    [...hints],
    [
      [digest('a'), { format: 'estargz' }],
      [digest('b'), { format: 'zstd:chunked', tables: [] }],
    ],
  )
})

test('zstd:chunked says where its tables are; nonsense is left out', () => {
  const position = 'io.github.containers.zstd-chunked.manifest-position'
  const split = 'io.github.containers.zstd-chunked.tarsplit-position'
  const hints = hintsIn(
    { annotations: { [position]: '700:50:999:1', [split]: '758:40:999' } },
    { annotations: { [position]: '990:50:999:1', [split]: 'x' } },
    { annotations: { [position]: '1000:50:999:1' } },
    { annotations: { [position]: '-1:50:999:1' } },
    { annotations: { 'io.containers.zstd-chunked.manifest-position': '700:50:999:1' } },
  )
  assert.deepEqual(
    [...hints],
    [
      [
        digest('a'),
        {
          format: 'zstd:chunked',
          tables: [
            { from: 700, to: 750 },
            { from: 758, to: 798 },
          ],
        },
      ],
      [digest('b'), { format: 'zstd:chunked', tables: [{ from: 990, to: 1000 }] }],
      [digest('e'), { format: 'zstd:chunked', tables: [{ from: 700, to: 750 }] }],
    ],
  )
})

test('nydus: data blobs are ordered by the bootstrap of their image', () => {
  const blob = { annotations: { 'containerd.io/snapshot/nydus-blob': 'true' } }
  const bootstrap = { annotations: { 'containerd.io/snapshot/nydus-bootstrap': 'true' }, size: 77 }
  const hint = { format: 'nydus', bootstrap: { digest: digest('c'), size: 77 } }
  assert.deepEqual(
    [...hintsIn(blob, blob, bootstrap)],
    [
      [digest('a'), hint],
      [digest('b'), hint],
    ],
  )
  assert.equal(hintsIn(blob).size, 0)
  assert.equal(hintsIn(blob, { ...bootstrap, size: 2 ** 40 }).size, 0)
})

test('whatever annotations say, hints are within their layer', () => {
  const text = fc.oneof(
    fc.string(),
    fc
      .array(fc.oneof(fc.nat({ max: 3000 }), fc.maxSafeNat()), { maxLength: 5 })
      .map(parts => parts.join(':')),
  )
  const annotations = fc.dictionary(
    fc.constantFrom(
      'io.github.containers.zstd-chunked.manifest-position',
      'io.github.containers.zstd-chunked.tarsplit-position',
      'containerd.io/snapshot/stargz/toc.digest',
      'containerd.io/snapshot/nydus-blob',
      'containerd.io/snapshot/nydus-bootstrap',
    ),
    text,
  )
  fc.assert(
    fc.property(fc.array(fc.record({ annotations }), { maxLength: 6 }), layers => {
      for (const hint of hintsIn(...layers).values()) {
        if (hint.format !== 'zstd:chunked') continue
        for (const { from, to } of hint.tables) assert(from >= 0 && from < to && to <= 1000)
      }
    }),
    SEED,
  )
})
