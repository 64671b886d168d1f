import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MANIFEST_MEDIA_TYPES, parseDigest } from '@darter/oci'
import { type BlobBody, type Origin, type OriginRequest, OriginStatusError } from '@darter/origin'
import type { TestImage } from './image.ts'

/** An origin that holds an image at `library/app`, tagged `v1` (its manifest) and `multi` (its index). */
export interface ConformanceSubject extends AsyncDisposable {
  readonly origin: Origin
}

const UNKNOWN = parseDigest(`sha256:${'0'.repeat(64)}`)

/** All of a body. */
export async function readAll(body: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const parts: Uint8Array[] = []
  for await (const part of body) parts.push(part)
  return Buffer.concat(parts)
}

/** What every request needs, with a signal that never aborts. */
export function requestFor(repository = 'library/app'): OriginRequest {
  return { repository, signal: new AbortController().signal }
}

/** Declares the tests that hold for each {@link Origin}, whatever is behind it. */
export function declareConformance(
  kind: string,
  skip: string | false,
  image: TestImage,
  open: () => Promise<ConformanceSubject>,
): void {
  const [layer] = image.layers
  assert.ok(layer)
  const size = layer.bytes.byteLength
  const accept: readonly string[] = MANIFEST_MEDIA_TYPES

  test(`${kind} as an origin`, { skip }, async t => {
    await using subject = await open()
    const { origin } = subject
    const request = requestFor()
    const refusedWith = (status: number, code?: string) => (error: unknown) => {
      assert.ok(error instanceof OriginStatusError, String(error))
      assert.equal(error.status, status)
      if (code !== undefined) assert.match(Buffer.from(error.body).toString(), new RegExp(`"code":"${code}"`))
      return true
    }

    await t.test('tells who it is', () => {
      assert.equal(origin.name, 'upstream')
      assert.ok(origin.description.length > 0)
    })

    for (const { tag, content } of [
      { tag: 'v1', content: image.manifest },
      { tag: 'multi', content: image.index },
    ]) {
      const { digest, mediaType, bytes } = content
      const described = { digest, mediaType, size: bytes.byteLength }

      await t.test(`gives the manifest of ${tag} by tag and by digest`, async () => {
        for (const reference of [tag, digest]) {
          const got = await origin.getManifest(reference, { ...request, accept })
          assert.deepEqual(
            { ...got, bytes: Buffer.from(got.bytes) },
            { ...described, bytes: Buffer.from(bytes) },
          )
        }
      })

      await t.test(`describes the manifest of ${tag} by tag and by digest`, async () => {
        for (const reference of [tag, digest]) {
          assert.deepEqual(await origin.headManifest(reference, { ...request, accept }), described)
        }
      })
    }

    await t.test('refuses unknown manifests with 404', async () => {
      for (const reference of ['nope', UNKNOWN]) {
        const refusal = refusedWith(404)
        await assert.rejects(origin.headManifest(reference, { ...request, accept }), refusal)
        const explained = refusedWith(404, 'MANIFEST_UNKNOWN')
        await assert.rejects(origin.getManifest(reference, { ...request, accept }), explained)
      }
    })

    await t.test('tells the size of a blob', async () => {
      for (const { digest, bytes } of [image.config, ...image.layers]) {
        const described = await origin.headBlob(digest, request)
        assert.deepEqual(described, {
          digest,
          size: bytes.byteLength,
          mediaType: 'application/octet-stream',
        })
      }
    })

    await t.test('refuses unknown blobs with 404', async () => {
      await assert.rejects(origin.headBlob(UNKNOWN, request), refusedWith(404))
      await assert.rejects(origin.openBlob(UNKNOWN, request), refusedWith(404, 'BLOB_UNKNOWN'))
    })

    await t.test('gives whole blobs', async () => {
      for (const { digest, bytes } of image.layers) {
        const { body, cancel: _, ...head } = await origin.openBlob(digest, request)
        assert.deepEqual(head, { offset: 0, size: bytes.byteLength, honouredRange: true })
        assert.deepEqual(await readAll(body), Buffer.from(bytes))
      }
    })

    const spans: readonly { from?: number; to?: number }[] = [
      { from: 0, to: 1 },
      { from: 1, to: 2 },
      { from: 1000, to: 100_000 },
      { from: size - 1, to: size },
      { from: size - 10 },
      { from: 0, to: size },
      { from: 5, to: size + 100 },
      { to: 7 },
      { from: 0 },
    ]
    for (const span of spans) {
      await t.test(`gives the bytes ${span.from ?? ''}..${span.to ?? ''} of a blob`, async () => {
        const { body, cancel: _, ...head } = await origin.openBlob(layer.digest, { ...request, ...span })
        assert.deepEqual(head, { offset: span.from ?? 0, size, honouredRange: true })
        assert.deepEqual(await readAll(body), Buffer.from(layer.bytes.subarray(span.from ?? 0, span.to)))
      })
    }

    await t.test('refuses a range past the end with 416', async () => {
      await assert.rejects(origin.openBlob(layer.digest, { ...request, from: size }), refusedWith(416))
    })

    await t.test('refuses a range that is none', async () => {
      for (const span of [{ from: 5, to: 5 }, { from: 6, to: 5 }, { from: -1 }, { from: 0.5 }, { to: 0 }]) {
        await assert.rejects(origin.openBlob(layer.digest, { ...request, ...span }), RangeError)
      }
    })

    await t.test('gives many ranges of one blob at the same moment', async () => {
      const step = Math.ceil(size / 40)
      const froms = Array.from({ length: 40 }, (_, at) => at * step).filter(from => from < size)
      const parts = await Promise.all(
        froms.map(async from => {
          const opened = await origin.openBlob(layer.digest, { ...request, from, to: from + step })
          return readAll(opened.body)
        }),
      )
      assert.deepEqual(Buffer.concat(parts), Buffer.from(layer.bytes))
    })

    await t.test('stays usable when readers leave early, cancel or abort', async () => {
      for (let round = 0; round < 50; round++) {
        const left = await origin.openBlob(layer.digest, request)
        for await (const part of left.body) {
          assert.ok(part.byteLength > 0)
          break
        }
        const cancelled: BlobBody = await origin.openBlob(layer.digest, request)
        cancelled.cancel()
      }
      const controller = new AbortController()
      const aborted = await origin.openBlob(layer.digest, { ...request, signal: controller.signal })
      const reason = new Error('the caller left')
      controller.abort(reason)
      await assert.rejects(readAll(aborted.body), error => error === reason)
      const whole = await origin.openBlob(layer.digest, request)
      assert.equal((await readAll(whole.body)).byteLength, size)
    })

    await t.test('refuses work for a caller that has left', async () => {
      const reason = new Error('gone')
      const gone = { ...request, signal: AbortSignal.abort(reason) }
      for (const work of [
        origin.openBlob(layer.digest, gone),
        origin.headBlob(layer.digest, gone),
        origin.getManifest('v1', { ...gone, accept }),
      ]) {
        await assert.rejects(work, error => error === reason)
      }
    })

    await t.test('forwards the tag list and the root of the API', async () => {
      const { signal } = request
      const list = await origin.forward({ method: 'GET', path: 'library/app/tags/list', headers: {}, signal })
      assert.equal(list.status, 200)
      const { name, tags } = JSON.parse((await readAll(list.body)).toString())
      assert.equal(name, 'library/app')
      // The order is the origin's own: docker-registry 2.8 does not sort.
      assert.deepEqual(new Set(tags), new Set(['multi', 'v1']))
      const root = await origin.forward({ method: 'GET', path: '', headers: {}, signal })
      assert.equal(root.status, 200)
      assert.deepEqual(JSON.parse((await readAll(root.body)).toString()), {})
    })

    await t.test('refuses paths that lead out of /v2/', async () => {
      for (const path of ['../secret', 'a/%2e%2e/%2e%2e/x', 'a/..%2f..%2fx', 'a/%zz']) {
        const answer = await origin.forward({ method: 'GET', path, headers: {}, signal: request.signal })
        assert.ok(answer.status === 400 || answer.status === 405, `${path}: ${answer.status}`)
        await readAll(answer.body)
      }
    })
  })
}
