import assert from 'node:assert/strict'
import { test } from 'node:test'
import { chooseManifest, type Digest, type ManifestDescriptor, parsePlatform } from '../src/index.ts'

const digest = (digit: string) => `sha256:${digit.repeat(64)}` as Digest

test('the manifest of a platform is found in an index', () => {
  const entry = (digit: string, architecture: string, variant?: string): ManifestDescriptor => ({
    kind: 'manifest',
    digest: digest(digit),
    size: 1,
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    platform: { os: 'linux', architecture, ...(variant !== undefined && { variant }) },
  })
  const listed = [entry('a', 'amd64'), entry('b', 'arm', 'v6'), entry('c', 'arm', 'v7')]
  assert.equal(chooseManifest(listed, parsePlatform('linux/amd64')).digest, digest('a'))
  assert.equal(chooseManifest(listed, parsePlatform('linux/arm')).digest, digest('b'))
  assert.equal(chooseManifest(listed, parsePlatform('linux/arm/v7')).digest, digest('c'))
  assert.throws(
    () => chooseManifest(listed, parsePlatform('linux/s390x')),
    /it has linux\/amd64, linux\/arm\/v6/,
  )
  assert.throws(() => parsePlatform('amd64'), /is no platform/)
})
