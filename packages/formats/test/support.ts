import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Digest, parseDigest } from '@darter/oci'
import { type Extent, firstExtents, type LayerHint } from '../src/index.ts'

export const SEED = { seed: 20_264 }

export const fixture = (name: string): Buffer => readFileSync(join(import.meta.dirname, 'fixtures', name))

export const digestOf = (bytes: Uint8Array): Digest =>
  parseDigest(`sha256:${createHash('sha256').update(bytes).digest('hex')}`)

/** All that a plan names of a blob, which may read only what it named; `others`: the image's other blobs. */
export async function planOf(
  hint: LayerHint,
  blob: Uint8Array,
  others: readonly Uint8Array[] = [],
  digest = digestOf(blob),
): Promise<Extent[]> {
  const named: Extent[] = []
  const plan = firstExtents(
    hint,
    { digest, size: blob.length },
    {
      extent: async extent => {
        assert(named.some(({ from, to }) => from === extent.from && to === extent.to))
        return blob.subarray(extent.from, extent.to)
      },
      blob: async wanted => {
        const found = others.find(bytes => digestOf(bytes) === wanted.digest)
        assert(found)
        return found
      },
    },
  )
  for await (const extent of plan) {
    assert(extent.from >= 0 && extent.from < extent.to && extent.to <= blob.length)
    named.push(extent)
  }
  return named
}
