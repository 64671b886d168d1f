import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Digest, parseDigest } from '@darter/oci'
import type { DescribedUrl, UrlSite } from '@darter/origin'
import { systemClock } from '@darter/runtime'
import fc from 'fast-check'
import { TargetTooLongError } from '../src/doors/errors.ts'
import { parseUrlTarget } from '../src/doors/url-path.ts'
import { canonicalUrl, sharedName, type UrlVersion, versionKey } from '../src/urls/content-name.ts'
import { UrlDigestError, UrlInvalidError } from '../src/urls/errors.ts'
import { createUrls } from '../src/urls/urls.ts'
import { lonelyFacts } from './support/door.ts'

const digest = (letter: string) => parseDigest(`sha256:${letter.repeat(64)}`)
const IGNORED = ['X-Amz-*', 'Signature']

test('a URL is read as one segment or as it is', () => {
  const url = 'https://hub.example/org/model/resolve/main/a%20b.bin?download=true&x=%2F'
  for (const target of [`/url/${encodeURIComponent(url)}`, `/url/${url}`]) {
    assert.deepEqual(parseUrlTarget(target), { url: new URL(url), authorization: undefined })
  }
})

test('any URL comes through as one segment unchanged', () => {
  fc.assert(
    fc.property(fc.webUrl({ withQueryParameters: true }), text => {
      const { url } = parseUrlTarget(`/url/${encodeURIComponent(text)}`)
      assert.equal(url.href, new URL(text).href)
    }),
    { seed: 1 },
  )
})

test('user and password become a header, and are in no message', () => {
  const { url, authorization } = parseUrlTarget('/url/https://al%40ice:p%3Aw@host.example/x#part')
  assert.equal(url.href, 'https://host.example/x')
  assert.equal(authorization, `Basic ${Buffer.from('al@ice:p:w').toString('base64')}`)
  const refused = (target: string) => {
    try {
      parseUrlTarget(target)
    } catch (error) {
      assert(error instanceof UrlInvalidError)
      return error.message
    }
    return assert.fail(`${target} was read`)
  }
  for (const [url, shown] of [
    ['ftp://u:hunter2@h/?t=hunter2', 'ftp://h'],
    ['https://u:hunter2@/x', 'https://...'],
    ['https://u:hunter2@h:99999/x', 'https://h:99999'],
    ['https:/u:hunter2@h/x', '...'],
    ['', ''],
  ] as const) {
    for (const text of [encodeURIComponent(url), encodeURIComponent(encodeURIComponent(url)), url]) {
      const message = refused(`/url/${text}`)
      assert(!message.includes('hunter2'), message)
      if (text === encodeURIComponent(url)) assert(message.includes(`the URL "${shown}" must`), message)
    }
  }
  assert.match(refused('/url/https%3A%2F%2Fu%3Ahunter2%40h%2F%ZZ%3Fhunter2'), /^the URL "https:\/\/h" is not/)
  assert.throws(() => parseUrlTarget(`/url/https://h/${'x'.repeat(9000)}`), TargetTooLongError)
})

test('a user name and a password are bytes, and a % in them that begins none stands for itself', () => {
  const { url, authorization } = parseUrlTarget('/url/https://a%FF:100%safe%3A@h/x')
  assert.equal(url.href, 'https://h/x')
  const pair = Buffer.concat([Buffer.from('a'), Buffer.from([0xff]), Buffer.from(':100%safe:')])
  assert.equal(authorization, `Basic ${pair.toString('base64')}`)
})

test('what signs a URL, and the fragment, do not count; the rest does, byte for byte', () => {
  const canonical = (text: string) => canonicalUrl(new URL(text), IGNORED)
  assert.deepEqual(canonical('https://h/a?b=1&x-amz-date=2&signature=3&c=%2f#d'), {
    text: 'https://h/a?b=1&c=%2f',
    signed: true,
  })
  assert.deepEqual(canonical('https://h/a?X-Amz-Date=2'), { text: 'https://h/a', signed: true })
  assert.deepEqual(canonical('https://h/a?X-Amzn=2'), { text: 'https://h/a?X-Amzn=2', signed: false })
  assert.equal(canonical('https://h/a?%58-Amz-Date=2').text, 'https://h/a')
})

test('a shared name is one for what is said of one version, and another for anything else', () => {
  const version: UrlVersion = { canonical: 'https://h/a', validator: 'etag "1"', size: 5 }
  const name = sharedName(version, digest('a'))
  assert.equal(sharedName({ ...version }, digest('a')), name)
  const others: readonly UrlVersion[] = [
    { ...version, canonical: 'https://h/b' },
    { ...version, validator: 'etag "2"' },
    { ...version, validator: undefined },
    { ...version, size: 6 },
  ]
  const names = [
    ...others.map(other => sharedName(other, digest('a'))),
    sharedName(version, digest('b')),
    digest('a'),
    `sha256:${versionKey(version)}`,
  ]
  assert.equal(new Set([...names, name]).size, names.length + 1)
})

/** A site that describes its content and sends none. */
function describingSite(answer: DescribedUrl) {
  let asked = 0
  const site: UrlSite = {
    describe: async () => {
      asked++
      return answer
    },
    open: () => assert.fail('nothing is read here'),
    retire: async () => {},
    close: async () => {},
  }
  return { site, asked: () => asked }
}

test('what other peers say of a URL counts until it proves wrong, and for nobody who shows credentials', async () => {
  const lie = digest('b')
  const { site, asked } = describingSite({
    size: 9,
    digest: undefined,
    isOwnDigest: false,
    validator: 'etag "1"',
    headers: {},
  })
  const urls = createUrls({
    sites: {
      find: url => ({ site, url, place: url.origin, named: true, hasCredentials: false, takesHeaders: true }),
      close: async () => {},
    },
    facts: { ...lonelyFacts, lastKnown: async () => lie },
    clock: systemClock,
    ignoredQuery: ['Signature'],
    accessTtlMs: 60_000,
  })
  const open = (text: string, headers: Record<string, string> = {}, wanted?: Digest) =>
    urls.open({ url: new URL(text), headers, wanted, via: undefined, signal: AbortSignal.timeout(5000) })
  const first = await open('https://h/a')
  assert.equal(first.digest, lie)
  assert.notEqual(first.shared?.name, lie)
  assert.equal(first.shared?.source.content, lie)
  for (const own of [await open('https://h/a', { cookie: 'c' }), await open('https://h/a?Signature=s')]) {
    assert.equal(own.digest, undefined)
    assert.equal(own.shared, undefined)
  }
  first.disprove()
  assert.equal((await open('https://h/a')).digest, undefined)
  first.learn(digest('c'))
  const known = await open('https://h/a')
  assert.equal(known.digest, digest('c'))
  const claimed = await open('https://h/a', {}, digest('c'))
  assert.equal(claimed.shared?.name, known.shared?.name)
  // The same caller's next question is answered from memory.
  assert.equal(asked(), 3)
})

test('an origin’s own word is believed like an upstream’s where it is named, and kept apart where any host is allowed or another told it', async () => {
  for (const [named, isOwnDigest] of [
    [true, true],
    [true, false],
    [false, true],
  ] as const) {
    const told = { size: 9, digest: digest('a'), isOwnDigest, validator: undefined, headers: {} }
    const { site } = describingSite(told)
    const urls = createUrls({
      sites: {
        find: url => ({ site, url, place: url.origin, named, hasCredentials: false, takesHeaders: true }),
        close: async () => {},
      },
      facts: lonelyFacts,
      clock: systemClock,
      ignoredQuery: [],
      accessTtlMs: 60_000,
    })
    const ask = {
      url: new URL('https://h/a'),
      headers: {},
      via: undefined,
      signal: AbortSignal.timeout(5000),
    }
    const { shared } = await urls.open({ ...ask, wanted: undefined })
    assert.equal(shared?.name === digest('a'), named && isOwnDigest)
    await assert.rejects(urls.open({ ...ask, wanted: digest('d') }), UrlDigestError)
  }
})

test('others are told a URL without a query alone, or the version of an object', async () => {
  const told = { size: 9, digest: digest('a'), isOwnDigest: true, validator: undefined, headers: {} }
  const { site } = describingSite(told)
  const urls = createUrls({
    sites: {
      find: url => ({ site, url, place: url.origin, named: true, hasCredentials: false, takesHeaders: true }),
      close: async () => {},
    },
    facts: lonelyFacts,
    clock: systemClock,
    ignoredQuery: ['Signature'],
    accessTtlMs: 60_000,
  })
  const tell = async (url: string) => {
    const ask = { url: new URL(url), headers: { authorization: 'secret' }, wanted: undefined, via: undefined }
    return (await urls.open({ ...ask, signal: AbortSignal.timeout(5000) })).shared?.source.url
  }
  for (const plain of ['https://h/a/b', 's3://bucket/key?versionId=7']) assert.equal(await tell(plain), plain)
  for (const hidden of ['https://h/a?Signature=s', 'https://h/a?token=s', `https://h/${'a'.repeat(5000)}`])
    assert.equal(await tell(hidden), undefined)
})
