import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { type Credentials, OriginStatusError } from '@darter/origin'
import { REALM, requirePrograms, startRegistry, useLab } from '@darter/testing'
import { readAll, requestFor } from './conformance.ts'
import { contentOf, randomBytes } from './image.ts'
import { openOrigin } from './registry-origin.ts'

const CREDENTIALS: Credentials = { kind: 'password', username: 'puller', password: 's3cret' }

describe('a private docker-registry', requirePrograms(['docker-registry', 'htpasswd']), () => {
  const lab = useLab('private-registry')

  test('is pushed to and read with configured credentials, and refuses others', async () => {
    const registry = await startRegistry(lab, { auth: { htpasswd: { puller: 's3cret' } } })
    await using trusted = openOrigin(registry.url, { credentials: async () => CREDENTIALS })
    await using stranger = openOrigin(registry.url)
    const blob = contentOf(randomBytes(300_000, 9), 'application/octet-stream')
    const request = requestFor('private/app')
    const { signal } = request
    async function* body() {
      yield blob.bytes
    }
    const begun = await trusted.forward({
      method: 'POST',
      path: 'private/app/blobs/uploads/',
      headers: {},
      signal,
    })
    await readAll(begun.body)
    assert.equal(begun.status, 202)
    const path = `${String(begun.headers['location']).slice('/v2/'.length)}&digest=${blob.digest}`
    const put = await trusted.forward({ method: 'PUT', path, headers: {}, body: body(), signal })
    assert.equal(put.status, 201, (await readAll(put.body)).toString())

    const { body: read } = await trusted.openBlob(blob.digest, request)
    assert.deepEqual(await readAll(read), Buffer.from(blob.bytes))
    const authorization = `Basic ${btoa('puller:s3cret')}`
    assert.equal((await stranger.headBlob(blob.digest, { ...request, authorization })).size, 300_000)

    for (const wrong of [undefined, `Basic ${btoa('puller:wrong')}`]) {
      await assert.rejects(stranger.openBlob(blob.digest, { ...request, authorization: wrong }), error => {
        assert.ok(error instanceof OriginStatusError)
        assert.equal(error.status, 401)
        assert.equal(error.headers['www-authenticate'], `Basic realm="${REALM}"`)
        assert.match(Buffer.from(error.body).toString(), /UNAUTHORIZED/)
        return true
      })
    }
  })
})
