import assert from 'node:assert/strict'
import type { LookupAddress } from 'node:dns'
import type { LookupFunction } from 'node:net'
import { test } from 'node:test'
import { addressRank, createAddressGuard, createOutwardLookup } from '../src/address-guard.ts'
import { OriginAddressError, OriginRedirectError } from '../src/errors.ts'

const NAMES: Readonly<Record<string, readonly string[]>> = {
  'public.test': ['93.184.216.34', '2606:4700::1111'],
  'private.test': ['10.1.2.3'],
  'mixed.test': ['10.1.2.3', '93.184.216.34'],
  'local.test': ['127.0.0.1', '::1'],
  'metadata.test': ['169.254.169.254'],
}
const lookup: LookupFunction = (hostname, _, callback) => {
  callback(
    null,
    (NAMES[hostname] ?? []).map(address => ({ address, family: address.includes(':') ? 6 : 4 })),
  )
}

const resolve = (by: LookupFunction, hostname: string, all = true): Promise<string | LookupAddress[]> =>
  new Promise((settle, reject) => {
    by(hostname, { all }, (error, address) => (error ? reject(error) : settle(address)))
  })

test('addresses are ranked by how far inside they lie', () => {
  for (const [rank, addresses] of [
    [0, ['8.8.8.8', '2606:4700::1111', '::ffff:8.8.8.8', '64:ff9b::8.8.8.8']],
    [
      1,
      ['10.0.0.1', '172.16.0.1', '172.31.255.255', '192.168.1.1', '100.64.0.1', 'fd00::1', '::ffff:10.0.0.1'],
    ],
    [2, ['127.0.0.1', '127.255.255.254', '::1', '0.0.0.0', '::', '64:ff9b::127.0.0.1']],
    [3, ['169.254.169.254', 'fe80::1', '::ffff:169.254.0.1', '64:ff9b::a9fe:a9fe']],
    [Number.POSITIVE_INFINITY, ['224.0.0.1', '255.255.255.255', 'ff02::1', '240.0.0.1', 'x', '']],
  ] as const) {
    for (const address of addresses) assert.equal(addressRank(address), rank, address)
  }
})

test('a public upstream leads to public addresses only', async () => {
  const guard = createAddressGuard({ upstream: new URL('https://public.test'), lookup })
  await resolve(guard.upstreamLookup, 'public.test')
  assert.deepEqual(await resolve(guard.guardedLookup, 'public.test', false), '93.184.216.34')
  assert.deepEqual(await resolve(guard.guardedLookup, 'mixed.test'), [
    { address: '93.184.216.34', family: 4 },
  ])
  for (const name of ['private.test', 'local.test', 'metadata.test']) {
    await assert.rejects(resolve(guard.guardedLookup, name), OriginRedirectError)
  }
  for (const url of ['http://10.0.0.1', 'http://[::1]', 'http://127.1', 'http://[fe80::1]']) {
    assert.throws(() => guard.checkLiteral(new URL(url)), OriginRedirectError, url)
  }
  guard.checkLiteral(new URL('https://8.8.8.8'))
})

test('an upstream on a private network leads there too, but no further inside', async () => {
  for (const upstream of ['http://private.test', 'http://10.9.9.9']) {
    const guard = createAddressGuard({ upstream: new URL(upstream), lookup })
    if (upstream.includes('test')) await resolve(guard.upstreamLookup, 'private.test')
    for (const name of ['public.test', 'private.test']) await resolve(guard.guardedLookup, name)
    for (const name of ['local.test', 'metadata.test']) {
      await assert.rejects(resolve(guard.guardedLookup, name), OriginRedirectError)
    }
  }
})

test('an upstream on this machine leads anywhere but to link-local addresses', async () => {
  const guard = createAddressGuard({ upstream: new URL('http://localhost'), lookup })
  await resolve(guard.upstreamLookup, 'local.test')
  for (const name of ['public.test', 'private.test', 'local.test']) await resolve(guard.guardedLookup, name)
  await assert.rejects(resolve(guard.guardedLookup, 'metadata.test'), OriginRedirectError)
})

test('a name that does not resolve fails as it does', async () => {
  const missing = Object.assign(new Error('no such name'), { code: 'ENOTFOUND' })
  const guard = createAddressGuard({
    upstream: new URL('http://x.test'),
    lookup: (_, __, callback) => callback(missing, []),
  })
  await assert.rejects(resolve(guard.upstreamLookup, 'x.test'), error => error === missing)
  await assert.rejects(resolve(guard.guardedLookup, 'x.test'), error => error === missing)
})

test('what clients reach lies outside of this machine and its links', async () => {
  const outward = createOutwardLookup(lookup)
  for (const name of ['public.test', 'private.test']) await resolve(outward, name)
  assert.deepEqual(await resolve(outward, 'mixed.test'), [
    { address: '10.1.2.3', family: 4 },
    { address: '93.184.216.34', family: 4 },
  ])
  for (const name of ['local.test', 'metadata.test']) {
    await assert.rejects(resolve(outward, name), OriginAddressError)
  }
})
